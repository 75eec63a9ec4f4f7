//! Reads blobs into memory of the realm's own. Deno's op gives the engine memory of Rust's, which counts twice against the
//! isolate's budget: as what Rust holds, and as a buffer of the engine's.

use std::sync::Arc;

use deno_core::futures::FutureExt as _;
use deno_core::{OpState, op2};
use deno_error::JsErrorBox;
use deno_web::BlobStoreTrait;
use uuid::Uuid;

/// Fills `target` with the bytes of a part from `start` on.
#[op2]
pub(crate) fn op_guest_blob_read(
    state: &mut OpState,
    #[scoped] id: Uuid,
    #[number] start: usize,
    #[buffer] target: &mut [u8],
) -> Result<(), JsErrorBox> {
    let part = state.borrow::<Arc<dyn BlobStoreTrait>>().get_part(&id);
    let part = part.ok_or_else(|| JsErrorBox::type_error("the blob has no such part"))?;
    // Parts are in memory: nothing is waited for.
    let bytes = part.read().now_or_never().unwrap_or_default();
    let wanted = start
        .checked_add(target.len())
        .and_then(|end| bytes.get(start..end));
    let wanted =
        wanted.ok_or_else(|| JsErrorBox::range_error("the part of the blob is shorter"))?;
    target.copy_from_slice(wanted);
    Ok(())
}
