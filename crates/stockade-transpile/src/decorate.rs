//! The functions that compiled decorators call.
//!
//! The compiler turns `@d class A {}` into calls of `babelHelpers.decorate` and leaves it to others to
//! define them; here is that definition, put before the code that needs it.

/// The object those calls name.
pub(crate) const OBJECT: &str = "babelHelpers.";

/// Defines the object, in one line.
///
/// `decorate` applies decorators from last to first: for a class (two arguments) each may replace the
/// class; for a member, `descriptor` is `null` for a method or accessor, whose own descriptor is then
/// removed and defined again, and `undefined` for a field. `var`: two scripts of a realm may both have it.
pub(crate) const DEFINITION: &str = "var babelHelpers = { \
decorate(decorators, target, key, descriptor) { \
const own = arguments.length > 2; \
let result = own ? descriptor === null ? Object.getOwnPropertyDescriptor(target, key) : descriptor : target; \
for (let i = decorators.length - 1; i >= 0; i--) { \
const made = own ? decorators[i](target, key, result) : decorators[i](result); \
if (made) result = made; } \
if (own && result) Object.defineProperty(target, key, result); \
return result; }, \
decorateParam(index, decorator) { return (target, key) => { decorator(target, key, index); }; } };";
