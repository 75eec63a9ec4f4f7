//! Names the request in its response, as it is named in logs and for the guest.

use http::header::HeaderName;
use http::{HeaderValue, Response};
use stockade_http::Body;

use super::{Filter, Notes};
use crate::access::AccessRecord;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Writes `x-request-id`.
pub(super) struct RequestId;

impl Filter for RequestId {
    fn on_response(
        &self,
        request: &AccessRecord,
        _notes: &mut Notes,
        response: &mut Response<Body>,
    ) {
        if let Ok(id) = HeaderValue::from_str(&request.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_request::TestRequest;
    use super::*;
    use stockade_http::empty_body;

    #[test]
    fn response_has_the_id_of_its_request_whatever_the_target_wrote() {
        let request = TestRequest::get("/");
        let mut response = Response::new(empty_body());
        let own = HeaderValue::from_static("made up");
        response.headers_mut().insert(REQUEST_ID, own);
        RequestId.on_response(&request.record, &mut Notes::default(), &mut response);
        assert_eq!(response.headers()[REQUEST_ID], *request.record.request_id);
        assert_eq!(response.headers().len(), 1);
    }
}
