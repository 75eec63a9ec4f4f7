//! Calls of the runtime's JavaScript functions.

use deno_core::v8;

/// A string of the engine; `None` where the text is too long for one.
pub(crate) fn string<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    text: &str,
) -> Option<v8::Local<'s, v8::Value>> {
    v8::String::new(scope, text).map(Into::into)
}

/// Calls one of the runtime's functions, without a context of asynchronous work that was left behind. They catch
/// what guests throw: `None` is the end of the isolate, or a full stack.
pub(crate) fn invoke<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    function: &v8::Global<v8::Function>,
    args: &[v8::Local<'s, v8::Value>],
) -> Option<v8::Local<'s, v8::Value>> {
    let function = v8::Local::new(scope, function);
    let this = v8::undefined(scope).into();
    scope.set_continuation_preserved_embedder_data(this);
    function.call(scope, this, args)
}
