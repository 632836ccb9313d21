//! The suite of stores on PostgreSQL, each case in a database of its own.
#![expect(clippy::unwrap_used, reason = "tests fail where they stand")]

use std::sync::Arc;

use asya_gateway_store::Store;
use asya_gateway_store::postgres::{Address, PostgresOptions, PostgresStore};
use asya_gateway_store::suite::Harness;
use asya_tests::postgres::Cluster;
use futures::future::BoxFuture;
use tokio::sync::OnceCell;

struct Postgres {
    store: Arc<dyn Store>,
    address: Address,
}

impl Postgres {
    async fn new() -> Self {
        // Migrated once, then copied.
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let template = TEMPLATE.get_or_init(async || {
            let url = Cluster::shared().database();
            PostgresStore::migrate(&Address::parse(&url).unwrap())
                .await
                .unwrap();
            url.rsplit('/').next().unwrap().to_owned()
        });
        let url = Cluster::shared().database_like(template.await);
        let address = Address::parse(&url).unwrap();
        Self {
            store: open(&address).await,
            address,
        }
    }
}

async fn open(address: &Address) -> Arc<dyn Store> {
    let options = PostgresOptions::new(address.clone());
    Arc::new(PostgresStore::connect(options).await.unwrap())
}

impl Harness for Postgres {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    fn replica(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(open(&self.address))
    }
}

asya_gateway_store::suite_tests!(Postgres::new().await);
