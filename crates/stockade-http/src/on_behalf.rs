//! For which client the current task works, so that what it causes is counted for the client's API key.

use tokio::task::futures::TaskLocalFuture;
use tokio::task_local;

task_local! {
    static KEY: Option<u64>;
}

/// Runs `work` for the client with the API key of this number; for no key where there is none. Tasks that `work` starts
/// work for no key.
pub fn on_behalf_of<F: Future>(key: Option<u64>, work: F) -> TaskLocalFuture<Option<u64>, F> {
    KEY.scope(key, work)
}

/// The number of the API key for which the current task works, if there is one.
#[must_use]
pub fn key_in_charge() -> Option<u64> {
    KEY.try_get().ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn key_is_that_of_the_task_and_of_no_other() {
        assert_eq!(key_in_charge(), None);
        on_behalf_of(Some(7), async {
            assert_eq!(key_in_charge(), Some(7));
            on_behalf_of(None, async { assert_eq!(key_in_charge(), None) }).await;
            let other = tokio::spawn(async { key_in_charge() });
            assert_eq!(other.await.unwrap(), None);
        })
        .await;
    }
}
