//! What the charts set is what the programs take: each program checks the environment and arguments of its pod.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use asya_tests::LIMIT;
use asya_tests::kube::{Cluster, Tools};
use serde_json::Value;

use crate::setup::{Said, Values, get, helm_in, install, prepared, stored, template};

/// The objects that a chart renders, as the API server would store them; `None` where there is no cluster.
fn objects(chart: &str, values: &str) -> Option<Vec<Value>> {
    let cluster = prepared()?;
    let namespace = cluster.namespace();
    let file = Values::read(values, &namespace);
    let arguments = ["--namespace", &namespace, "--values", file.path(), "--skip-tests"];
    let manifest = template(chart, &arguments)?.unwrap();
    let core = manifest.split("\n---\n").filter(|document| {
        !document.contains("\napiVersion: monitoring.coreos.com") && !document.contains("\nkind: Role")
    });
    Some(core.flat_map(|document| stored(cluster, document)).collect())
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects
        .iter()
        .find(is_it)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The environment of the first container; what comes from Secrets is made up.
fn environment(deployment: &Value) -> BTreeMap<String, String> {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let entries = container["env"].as_array().unwrap();
    let entry = |entry: &Value| {
        let name = entry["name"].as_str().unwrap().to_owned();
        let made_up = if name.ends_with("_URL") {
            "amqp://a:b@c/"
        } else {
            "made-up-0123456789abcdef"
        };
        let value = entry
            .get("valueFrom")
            .map_or(entry["value"].as_str().unwrap_or(""), |_| made_up);
        (name, value.to_owned())
    };
    entries.iter().map(entry).collect()
}

fn run(command: &mut Command, environment: &BTreeMap<String, String>) -> Said {
    command.env_clear().envs(environment).output().unwrap().into()
}

#[test]
fn the_operator_takes_what_its_chart_sets() {
    for (values, transports) in [
        ("operator-e2e", ["rabbitmq", "sqs"].as_slice()),
        ("operator-old", &["rabbitmq", "sqs-eu"]),
        ("operator-all", &["rabbitmq"]),
    ] {
        let Some(cluster) = prepared() else { return };
        let file = Values::read(values, "default");
        let arguments = ["--values", file.path(), "--show-only=templates/deployment.yaml"];
        let manifest = template("asya-operator", &arguments).unwrap().unwrap();
        let manifest = manifest.replace("namespace: asya-system", "namespace: default");
        let deployment = &stored(cluster, &manifest)[0];
        let mut command = Command::new(asya_tests::operator());
        for argument in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
            .as_array()
            .unwrap()
        {
            command.arg(argument.as_str().unwrap());
        }
        let said = run(command.arg("--check"), &environment(deployment));
        assert!(said.success, "{values}: {said:?}");
        for transport in transports {
            assert!(said.out.contains(transport), "{values}: {said:?}");
        }
        // What older values name and nobody has: the script of an image, and its source. The sample of SQS that is
        // switched off has no account.
        let known = [
            "ASYA_RUNTIME_SOURCE",
            "ASYA_RUNTIME_LOCAL_PATH",
            "transports.sqs.config.accountId",
        ];
        for line in said.out.lines().filter(|line| line.starts_with("warning")) {
            assert!(known.iter().any(|known| line.contains(known)), "{values}: {line}");
        }
    }
}

#[test]
fn the_gateway_takes_what_its_chart_sets() {
    for values in ["gateway-e2e", "gateway-old", "gateway-bundled"] {
        let Some(objects) = objects("asya-gateway", values) else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_string_lossy().into_owned()
        };
        let mut all: BTreeMap<String, String> =
            serde_json::from_value(find(&objects, "ConfigMap", "asya-gateway")["data"].clone()).unwrap();
        all.extend(environment(find(&objects, "Deployment", "asya-gateway")));
        let routes = find(&objects, "ConfigMap", "gateway-routes")["data"]["routes.yaml"]
            .as_str()
            .unwrap();
        all.insert("ASYA_CONFIG_PATH".into(), write("routes.yaml", routes));
        all.insert(
            "ASYA_STATE_DIR".into(),
            directory.path().to_string_lossy().into_owned(),
        );
        if all.contains_key("ASYA_AUTH_KEYS_FILE") {
            let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
            all.insert(
                "ASYA_AUTH_KEYS_FILE".into(),
                write("keys", &format!("alice sha256:{hash} roles=client\n")),
            );
        }
        let said = run(
            Command::new(asya_tests::asya()).args(["gateway", "--check"]),
            &all,
        );
        assert!(
            said.success && !said.out.contains("warning"),
            "{values}: {said:?}"
        );
    }
}

/// A running operator, killed when dropped.
struct Operator {
    process: std::process::Child,
    log: PathBuf,
}

impl Operator {
    /// Starts the operator as the Deployment of its chart would, with the rights of its service account.
    fn start(cluster: &Cluster, namespace: &str, directory: &Path) -> Self {
        let deployment = get(cluster, namespace, "deployment/asya-operator");
        let pod = &deployment["spec"]["template"]["spec"];
        let account = pod["serviceAccountName"].as_str().unwrap();
        let kubeconfig = directory.join("kubeconfig");
        let token = cluster.token(namespace, account);
        std::fs::write(&kubeconfig, cluster.kubeconfig_for(&token, cluster.port)).unwrap();
        let mut environment = environment(&deployment);
        environment.insert("KUBECONFIG".into(), kubeconfig.to_string_lossy().into_owned());
        environment.insert("POD_NAMESPACE".into(), namespace.to_owned());
        environment.insert("POD_NAME".into(), "asya-operator-0".into());
        let log = directory.join("log");
        let out = std::fs::File::create(&log).unwrap();
        let arguments = pod["containers"][0]["args"].as_array().unwrap();
        let process = Command::new(asya_tests::operator())
            .args(arguments.iter().map(|argument| argument.as_str().unwrap()))
            .env_clear()
            .envs(environment)
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { process, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for an object.
    fn until(&self, cluster: &Cluster, namespace: &str, what: &str, is_there: bool) {
        let started = Instant::now();
        while cluster
            .try_kubectl(&["get", "--namespace", namespace, what], "")
            .status
            .success()
            != is_there
        {
            assert!(started.elapsed() < LIMIT, "{what} in {namespace}: {}", self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn the_operator_works_with_the_rights_of_its_chart_and_no_others() {
    for tool in ["etcd", "kube-apiserver", "kubectl", "helm"] {
        if Tools::get().need(tool).is_none() {
            return;
        }
    }
    // A cluster of its own, since KEDA's definitions change what notes say.
    let cluster = Cluster::start();
    if !asya_tests::keda::install(&cluster) {
        return;
    }
    for is_namespaced in [false, true] {
        let (home, work) = (cluster.namespace(), cluster.namespace());
        let mut text = format!(
            "controller: {{disableQueueManagement: true, clusterName: east}}\n\
             metrics: {{port: {}}}\nhealth: {{port: {}}}\n",
            free_port(),
            free_port()
        );
        if is_namespaced {
            text = format!("{text}watchNamespaces: [{work}]\n");
        } else {
            // Asked for as the uid of kube-system.
            text = text.replace(", clusterName: east", "");
        }
        let values = Values::of(&text);
        install(
            &cluster,
            "asya-operator",
            "asya-operator",
            &home,
            &["--values", values.path()],
        );
        let keys = ["--from-literal=username=guest", "--from-literal=password=guest"];
        cluster.kubectl(
            &[
                &[
                    "create",
                    "secret",
                    "generic",
                    "rabbitmq-secret",
                    "--namespace",
                    &work,
                ][..],
                &keys,
            ]
            .concat(),
        );
        let directory = tempfile::tempdir().unwrap();
        let operator = Operator::start(&cluster, &home, directory.path());
        let space = format!("namespace={work}");
        install(
            &cluster,
            "hello",
            "asya-actor",
            &home,
            &["--set", &space, "--set", "scaling.enabled=true"],
        );

        operator.until(&cluster, &work, "deployment/hello", true);
        operator.until(&cluster, &work, "scaledobject/hello", true);
        operator.until(&cluster, &work, "triggerauthentication/hello-trigger-auth", true);
        operator.until(&cluster, &work, "configmap/asya-runtime", true);
        operator.until(&cluster, &home, "configmap/asya-runtime", true);
        operator.until(&cluster, &home, "lease/asya-operator.asya.sh", true);
        let wait = ["wait", "--namespace", &work, "asyncactor/hello", "--timeout=60s"];
        cluster.kubectl(&[&wait[..], &["--for=condition=ScalingReady"]].concat());
        helm_in(
            &cluster,
            &["uninstall", "hello", "--no-hooks", "--namespace", &home],
        )
        .unwrap();
        operator.until(&cluster, &work, "asyncactor/hello", false);
        let log = operator.log();
        assert!(!log.to_lowercase().contains("forbidden"), "{log}");
        drop(operator);
        helm_in(
            &cluster,
            &["uninstall", "asya-operator", "--no-hooks", "--namespace", &home],
        )
        .unwrap();
    }
}
