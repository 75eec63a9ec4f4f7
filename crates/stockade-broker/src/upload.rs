//! A guest's request body on its way out: counted, bounded, paced, and searched for placeholders.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use stockade_http::{Body, BoxError};
use tokio::time::Sleep;

use crate::audit::Reason;
use crate::error::EgressError;
use crate::in_flight::InFlight;
use crate::secrets::{PLACEHOLDER_LENGTH, Secrets};

/// Bytes from the beginning of a body that are searched for placeholders.
const SEARCHED: usize = 64 * 1024;

pub(crate) struct Upload {
    inner: Body,
    in_flight: Arc<InFlight>,
    limit: u64,
    /// What the guest declared, and what of it is still to come.
    declared: Option<u64>,
    wait: Option<Pin<Box<Sleep>>>,
    search: Option<Search>,
    is_over: bool,
}

struct Search {
    secrets: Secrets,
    done: usize,
    /// The end of what went out, in which a placeholder may have begun.
    tail: Vec<u8>,
}

impl Upload {
    /// Takes a body on whose way out `in_flight` counts.
    ///
    /// # Errors
    /// Its length is known and is not what the guest declared, or is beyond the limit.
    pub(crate) fn new(
        inner: Body,
        in_flight: Arc<InFlight>,
        limit: u64,
        declared: Option<u64>,
        secrets: &Secrets,
    ) -> Result<Self, EgressError> {
        let known = inner.size_hint().exact();
        if let (Some(known), Some(declared)) = (known, declared)
            && known != declared
        {
            return Err(in_flight.fails(EgressError::Invalid {
                what: "the header Content-Length",
                why: format!("it says {declared}, and the body has {known} bytes"),
            }));
        }
        if known.or(declared).is_some_and(|length| length > limit) {
            return Err(in_flight.refuse(Reason::TooLarge {
                what: "the request's body",
                limit,
            }));
        }
        let search = (!secrets.is_empty()).then(|| Search {
            secrets: secrets.clone(),
            done: 0,
            tail: Vec::new(),
        });
        let is_over = inner.is_end_stream();
        let declared = if known.is_some() { None } else { declared };
        Ok(Self {
            inner,
            in_flight,
            limit,
            declared,
            wait: None,
            search,
            is_over,
        })
    }

    fn take(&mut self, data: &Bytes) -> Result<(), EgressError> {
        let (total, paced) = self.in_flight.sends(data.len());
        if total > self.limit {
            let limit = self.limit;
            return Err(self.in_flight.refuse(Reason::TooLarge {
                what: "the request's body",
                limit,
            }));
        }
        if let Some(left) = &mut self.declared {
            let length = data.len() as u64;
            *left = left.checked_sub(length).ok_or_else(|| {
                self.in_flight.fails(EgressError::Invalid {
                    what: "the request's body",
                    why: "it is longer than its Content-Length says".to_owned(),
                })
            })?;
        }
        if let Some(search) = &mut self.search
            && let Some(reason) = search.find(data)
        {
            return Err(self.in_flight.refuse(reason));
        }
        let until = paced.map_err(|reason| self.in_flight.refuse(reason))?;
        if let Some(until) = until {
            self.in_flight.stamp_at(until);
            self.wait = Some(Box::pin(tokio::time::sleep_until(until)));
        }
        Ok(())
    }
}

impl Search {
    fn find(&mut self, data: &[u8]) -> Option<Reason> {
        if self.done >= SEARCHED {
            return None;
        }
        let data = &data[..data.len().min(SEARCHED)];
        self.done += data.len();
        self.tail.extend_from_slice(data);
        let found = self.secrets.misplaced(&self.tail);
        let keep = self.tail.len().min(PLACEHOLDER_LENGTH - 1);
        self.tail.drain(..self.tail.len() - keep);
        found
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        if let Some(wait) = &mut this.wait {
            ready!(wait.as_mut().poll(cx));
            this.wait = None;
            this.in_flight.stamp();
        }
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        let result = match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => match this.take(&data) {
                Ok(()) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(error) => Err(error),
            },
            Some(Err(error)) => Err(this.in_flight.fails(EgressError::Invalid {
                what: "the request's body",
                why: error.to_string(),
            })),
            // The end, or trailers, which are not passed on.
            None | Some(Ok(Err(_))) => match this.declared {
                Some(left) if left > 0 => Err(this.in_flight.fails(EgressError::Invalid {
                    what: "the request's body",
                    why: format!("it is {left} bytes shorter than its Content-Length says"),
                })),
                _ => Ok(()),
            },
        };
        this.is_over = true;
        this.in_flight.stamp();
        Poll::Ready(result.err().map(|error| Err(error.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        match self.declared {
            Some(left) => SizeHint::with_exact(left),
            None => self.inner.size_hint(),
        }
    }
}
