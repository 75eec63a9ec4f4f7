//! The time zone that every isolate of the process sees.

use deno_core::v8;
use stockade_jail::CODE_RANGE;

/// Makes ICU settle on UTC.
///
/// ICU reads `TZ` when it first needs a zone and keeps the result for the life of the process
/// (icu4c `timezone.cpp`, `initDefault`), so the variable is set only for that moment.
pub(crate) fn settle_on_utc() {
    let before = std::env::var_os("TZ");
    // SAFETY: `initialize` runs before other threads exist, as its documentation demands; V8's own
    // platform threads do not read the environment.
    unsafe { std::env::set_var("TZ", "UTC") };
    {
        let params = v8::CreateParams::default().set_code_range_size_in_bytes(CODE_RANGE);
        let isolate = &mut v8::Isolate::new(params);
        v8::scope!(let scope, isolate);
        let context = v8::Context::new(scope, v8::ContextOptions::default());
        let scope = &mut v8::ContextScope::new(scope, context);
        let _ = v8::String::new(scope, "new Date(0).getTimezoneOffset()")
            .and_then(|code| v8::Script::compile(scope, code, None))
            .and_then(|script| script.run(scope));
    }
    // SAFETY: as above.
    unsafe {
        match before {
            Some(zone) => std::env::set_var("TZ", zone),
            None => std::env::remove_var("TZ"),
        }
    }
}
