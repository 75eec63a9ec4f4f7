// A PostgreSQL database, for statements and for the guest's own driver.

(function () {
const { core } = __bootstrap;
const { creates } = core.loadExtScript("ext:stockade_realm/doors.js");

return { create: creates({ __proto__: null, scheme: "postgresql", port: 5432, query: "?sslmode=disable", hasLogin: true, hasSql: true }) };
})();
