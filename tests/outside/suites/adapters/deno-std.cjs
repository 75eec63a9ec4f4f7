// `@std/…` and `test_util.ts`: CommonJS, so that an import of a name that is not here fails in the test that uses it.
module.exports = require("./deno.js").std;
