//! The suite on SQLite, on a file of its own for each case.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, also in what tests share"
)]

use std::path::PathBuf;
use std::sync::Arc;

use asya_gateway_store::Store;
use asya_gateway_store::sqlite::{SqliteOptions, SqliteStore};
use asya_gateway_store::suite::Harness;
use futures::FutureExt;
use futures::future::BoxFuture;
use tempfile::TempDir;

struct File {
    directory: TempDir,
    store: Arc<SqliteStore>,
}

impl File {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path().join("gateway.db")).await;
        Self { directory, store }
    }
}

async fn open(path: PathBuf) -> Arc<SqliteStore> {
    let opened = SqliteStore::open(path, SqliteOptions::default()).await;
    Arc::new(opened.unwrap())
}

impl Harness for File {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn replica(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        let path = self.directory.path().join("gateway.db");
        async { open(path).await as Arc<dyn Store> }.boxed()
    }
}

asya_gateway_store::suite_tests!(File::new().await);
