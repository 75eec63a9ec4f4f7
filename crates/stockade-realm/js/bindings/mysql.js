// A MySQL or MariaDB database, for statements and for the guest's own driver.

(function () {
const { core } = __bootstrap;
const { creates } = core.loadExtScript("ext:stockade_realm/doors.js");

return { create: creates({ __proto__: null, scheme: "mysql", port: 3306, query: "", hasLogin: true, hasSql: true }) };
})();
