//! The pages about installation: each command of helm that names one of our charts works as written, with the files
//! that the page shows; each manifest that it shows is admitted.

use std::path::Path;

use crate::setup::{helm_in, prepared, root};

/// The fenced blocks of a page: the words behind the fence, and the text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(words), None) => open = Some((words.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

fn check(page: &str, commands: usize) {
    let Some(cluster) = prepared() else { return };
    let text = std::fs::read_to_string(root().join("docs/install").join(page)).unwrap();
    let blocks = blocks(&text);
    let directory = tempfile::tempdir().unwrap();
    let in_directory = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    for (words, body) in &blocks {
        if let Some(name) = words.split(' ').find_map(|word| word.strip_prefix("file=")) {
            std::fs::write(directory.path().join(name), body).unwrap();
        }
    }
    let shell = blocks
        .iter()
        .filter(|(words, _)| words == "sh")
        .flat_map(|(_, body)| body.lines());
    let mut seen = 0;
    for line in shell {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let Some(position) = words.iter().position(|word| word.starts_with("charts/asya-")) else {
            continue;
        };
        if words.first().map(String::as_str) != Some("helm") {
            assert!(root().join(&words[words.len() - 1]).exists(), "{page}: {line}");
            continue;
        }
        words[position] = root().join(&words[position]).to_string_lossy().into_owned();
        for index in 1..words.len() {
            if words[index - 1] == "--values" {
                words[index] = in_directory(&words[index]);
                assert!(
                    Path::new(&words[index]).exists(),
                    "{page}: {line}: the page shows no such file"
                );
            }
        }
        words.push("--dry-run=server".into());
        // An upgrade of what this test has not installed.
        words[1] = if words[1] == "upgrade" {
            "install".into()
        } else {
            words[1].clone()
        };
        words.retain(|word| word != "--install");
        let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let said = helm_in(cluster, &arguments);
        assert!(said.success, "{page}: {line}: {}", said.error);
        seen += 1;
    }
    assert_eq!(seen, commands, "{page}");
}

#[test]
fn the_page_about_helm_shows_commands_that_work() {
    check("helm.md", 5);
}

#[test]
fn the_page_about_a_local_cluster_shows_commands_that_work() {
    check("local-cluster.md", 3);
}

#[test]
fn the_page_about_eks_shows_commands_that_work() {
    check("eks.md", 5);
}

#[test]
fn the_manifests_of_the_page_about_a_local_cluster_are_admitted() {
    let Some(cluster) = prepared() else { return };
    let page = std::fs::read_to_string(root().join("docs/install/local-cluster.md")).unwrap();
    let namespace = cluster.namespace();
    let mut seen = 0;
    for (words, body) in blocks(&page) {
        if words.contains("file=") && body.starts_with("apiVersion:") {
            let manifest = body.replace("namespace: asya}", &format!("namespace: {namespace}}}"));
            cluster.kubectl_with(&["apply", "--filename=-"], &manifest);
            seen += 1;
        }
    }
    assert_eq!(seen, 2);
    cluster.kubectl(&[
        "get",
        "--namespace",
        &namespace,
        "asyncactor/hello",
        "deployment/rabbitmq",
    ]);
}
