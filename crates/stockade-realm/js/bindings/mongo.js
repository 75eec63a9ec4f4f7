// A MongoDB database, to which the guest's own driver speaks: `new MongoClient(env.DB.connectionString)`.

(function () {
const { core } = __bootstrap;
const { creates } = core.loadExtScript("ext:stockade_realm/doors.js");

const query = "?directConnection=true";
return { create: creates({ __proto__: null, scheme: "mongodb", port: 27017, query, hasLogin: false, hasSql: false }) };
})();
