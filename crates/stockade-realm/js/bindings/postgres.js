// A PostgreSQL database, to which the guest's own driver speaks.

(function () {
const { core } = __bootstrap;
const { creates } = core.loadExtScript("ext:stockade_realm/doors.js");

return { create: creates({ __proto__: null, scheme: "postgresql", port: 5432, query: "?sslmode=disable" }) };
})();
