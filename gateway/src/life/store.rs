//! Opening the database.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use asya_gateway_store::postgres::PostgresStore;
use asya_gateway_store::sqlite::{SqliteOptions, SqliteStore};
use asya_gateway_store::{Store, StoreError};
use tokio::time::Instant;

use super::StartError;
use crate::settings::Database;

/// How long a database that does not answer is waited for. Whoever starts the program again has a backoff of its own.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Opens it, with everything in it that has to be there.
pub(super) async fn open(database: Database) -> Result<Arc<dyn Store>, StartError> {
    match database {
        Database::Sqlite(path) => {
            make_directory_of(&path)?;
            let failed = |cause| StartError::Store {
                database: path.display().to_string(),
                cause,
            };
            Ok(Arc::new(
                SqliteStore::open(&path, SqliteOptions::default())
                    .await
                    .map_err(failed)?,
            ))
        }
        Database::Postgres(options) => {
            let database = options.address.to_string();
            let give_up = Instant::now() + PATIENCE;
            let mut said = false;
            loop {
                match PostgresStore::connect((*options).clone()).await {
                    Ok(store) => return Ok(Arc::new(store)),
                    Err(error @ StoreError::Unavailable(_)) if Instant::now() < give_up => {
                        if !said {
                            tracing::warn!(%database, %error, "the database does not answer yet, trying again");
                            said = true;
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(cause) => return Err(StartError::Store { database, cause }),
                }
            }
        }
    }
}

/// Makes the directory in which a file is to lie.
pub(crate) fn make_directory_of(file: &Path) -> Result<(), StartError> {
    let Some(directory) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    std::fs::create_dir_all(directory).map_err(|cause| StartError::Directory {
        path: directory.to_owned(),
        cause,
    })
}
