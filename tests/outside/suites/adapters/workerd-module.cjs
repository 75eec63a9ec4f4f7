// A built-in module of workerd. CommonJS, so that an import of a name that is not here fails in the test that uses it.
const { stub } = require("./drive.js");
const { modules } = require("./workerd.js");
module.exports = (name) => modules[name] ?? stub(name);
