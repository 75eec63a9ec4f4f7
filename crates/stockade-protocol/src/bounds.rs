//! The largest things either side accepts. Each is enforced where the message enters.

/// Bytes of one message: JSON text and binary parts together.
pub const MAX_MESSAGE_BYTES: usize = 192 << 20;

/// What the values of one message may cost in the heap of its reader, in bytes, their texts and bytes
/// not counted. [`Payload::weigh`](crate::Payload::weigh) has the prices.
pub const MAX_MESSAGE_VALUES: usize = 128 << 20;

/// Bytes that may wait in one direction of one isolate.
pub const MAX_QUEUE_BYTES: usize = 256 << 20;

/// Messages that may wait in one direction of one isolate.
pub const MAX_QUEUE_MESSAGES: usize = 1 << 18;

/// What a message costs against [`MAX_QUEUE_BYTES`] in addition to its data.
pub const MESSAGE_OVERHEAD: usize = 128;

/// Bytes of an event's, a method's or a function's name.
pub const MAX_NAME_BYTES: usize = 1 << 10;

/// Binary parts of one message.
pub const MAX_MESSAGE_PARTS: usize = 1 << 14;

/// What a binary part costs in addition to its bytes.
pub const PART_OVERHEAD: usize = 64;

/// Bytes of the text that carries an isolate's options, modules included, to a worker.
pub const MAX_OPTIONS_BYTES: usize = 512 << 20;

/// Requests of one isolate that wait for the host's answer.
pub const MAX_PENDING_REQUESTS: usize = stockade_limits::MAX_PENDING_REQUESTS as usize;

/// Bytes of those requests together. One of any allowed size may be open by itself.
pub const MAX_OPEN_REQUEST_BYTES: usize = MAX_QUEUE_BYTES;

/// Bytes of an error's message or stack.
pub const MAX_ERROR_BYTES: usize = 64 << 10;

/// Errors that one came of, and that go with it: causes, and members of an `AggregateError`.
pub const MAX_RELATED_ERRORS: usize = 16;

/// How far from the error that was thrown they may be.
pub const MAX_RELATED_DEPTH: u8 = 8;

/// Bytes of the message or the stack of one of them.
pub const MAX_RELATED_BYTES: usize = 8 << 10;

/// Bytes of the word that says why a worker ended an isolate.
pub const MAX_REASON_BYTES: usize = 64;

/// Bytes of one piece of what a probe finds.
pub const MAX_FINDING_BYTES: usize = 64 << 10;

/// Bytes of one message between a debugger and an isolate.
pub const MAX_DEBUG_BYTES: usize = 64 << 20;

/// Bytes of one console line; the rest is cut and the cut is shown.
pub const MAX_CONSOLE_BYTES: usize = 16 << 10;

/// Console lines a second; those above are counted, and the count is reported.
pub const MAX_CONSOLE_LINES_PER_SECOND: u32 = 1000;

/// Bytes of console text a second.
pub const MAX_CONSOLE_BYTES_PER_SECOND: usize = 1 << 20;
