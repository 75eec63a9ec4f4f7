//! The text behind `Bearer` in `authorization` (RFC 6750, section 2.1).

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};

/// A request has `authorization` more than once: two readers could see another client each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The request has more than one authorization.")]
pub struct SeveralCredentials;

/// Reads the text behind `Bearer`; `None` where there is none, or another scheme.
///
/// # Errors
/// [`SeveralCredentials`].
pub fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, SeveralCredentials> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, more) = (values.next(), values.next());
    if more.is_some() {
        return Err(SeveralCredentials);
    }
    Ok(first.map(HeaderValue::as_bytes).and_then(|value| {
        let (scheme, text) = value.split_at_checked(7)?;
        let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
        is_bearer.then(|| text.trim_ascii())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_is_read_in_any_case_and_once() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            bearer(&headers).map(|text| text.map(<[u8]>::to_vec))
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["Bearer  a "]), Ok(Some(b"a".to_vec())));
        assert_eq!(of(&["bEARER a"]), Ok(Some(b"a".to_vec())));
        assert_eq!(of(&["Basic a"]), Ok(None));
        assert_eq!(of(&["Bearer"]), Ok(None));
        assert_eq!(of(&["Bearer a", "Basic b"]), Err(SeveralCredentials));
    }
}
