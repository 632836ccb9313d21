use asya_objects::*;
#[tokio::main]
async fn main() {
    for d in [Durability::Process, Durability::Power] {
        let dir = tempfile::tempdir_in("/work").unwrap();
        let r = Results::open_directory(dir.path(), d).unwrap();
        let t = std::time::Instant::now();
        let n = 500;
        for i in 0..n {
            let id = format!("id-{i}");
            let f = Facts {
                id: &id,
                actors: &[],
                current: 0,
                attempt: 1,
            };
            r.put_result(End::Happy, &f, "{\"a\":[1,2,3]}".into())
                .await
                .unwrap();
        }
        println!("{d:?} {:?} each", t.elapsed() / n);
    }
    let big: Vec<u8> = format!(
        "[{}1]",
        "{\"a\":1.5,\"text\":\"hello world this is\"},".repeat(300_000)
    )
    .into();
    let t = std::time::Instant::now();
    let o = indent(&big);
    println!("indent {} -> {} in {:?}", big.len(), o.len(), t.elapsed());
}
