// A Redis or Valkey server, to which the guest's own driver speaks.

(function () {
const { core } = __bootstrap;
const { creates } = core.loadExtScript("ext:stockade_realm/doors.js");

return { create: creates({ __proto__: null, scheme: "redis", port: 6379, query: "", hasLogin: true, hasSql: false }) };
})();
