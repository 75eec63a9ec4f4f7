//! Requests of one guest that its host has not answered: how many, and how much they hold.

use std::collections::HashMap;

use stockade_protocol::RequestId;
use stockade_protocol::bounds::MAX_OPEN_REQUEST_BYTES;

use super::refusal::GuestSendError;

#[derive(Default)]
pub(crate) struct OpenRequests {
    sizes: HashMap<RequestId, usize>,
    bytes: usize,
}

impl OpenRequests {
    /// Notes a request, or says why there is no room for it.
    pub(crate) fn open(
        &mut self,
        id: RequestId,
        bytes: usize,
        limit: usize,
    ) -> Result<(), GuestSendError> {
        if self.sizes.contains_key(&id) {
            return Err(GuestSendError::RequestTwice { id });
        }
        if self.sizes.len() >= limit {
            return Err(GuestSendError::TooManyRequests { limit });
        }
        let sum = self.bytes.saturating_add(bytes);
        if sum > MAX_OPEN_REQUEST_BYTES && !self.sizes.is_empty() {
            return Err(GuestSendError::RequestsTooLarge {
                bytes,
                open: self.bytes,
            });
        }
        self.sizes.insert(id, bytes);
        self.bytes = sum;
        Ok(())
    }

    /// Forgets a request; one that is not open changes nothing.
    pub(crate) fn close(&mut self, id: RequestId) {
        if let Some(bytes) = self.sizes.remove(&id) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.sizes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_above_the_bytes_are_refused_until_one_is_answered() {
        let mut requests = OpenRequests::default();
        requests.open(1, MAX_OPEN_REQUEST_BYTES + 1, 8).unwrap();
        let refused = requests.open(2, 1, 8);
        assert!(matches!(
            refused,
            Err(GuestSendError::RequestsTooLarge { .. })
        ));
        requests.close(1);
        requests.open(2, 1, 8).unwrap();
        requests.open(3, MAX_OPEN_REQUEST_BYTES - 1, 8).unwrap();
        assert!(requests.open(4, 1, 8).is_err());
    }

    #[test]
    fn requests_are_counted_once_each_however_often_they_are_answered() {
        let mut requests = OpenRequests::default();
        requests.open(1, 10, 2).unwrap();
        requests.open(2, 10, 2).unwrap();
        requests.close(1);
        requests.close(1);
        requests.close(7);
        assert_eq!(requests.count(), 1);
        requests.open(3, 10, 2).unwrap();
        let refused = requests.open(4, 10, 2);
        assert_eq!(refused, Err(GuestSendError::TooManyRequests { limit: 2 }));
    }

    #[test]
    fn requests_with_an_open_number_are_refused() {
        let mut requests = OpenRequests::default();
        requests.open(1, 10, 2).unwrap();
        let refused = requests.open(1, 10, 2);
        assert_eq!(refused, Err(GuestSendError::RequestTwice { id: 1 }));
    }
}
