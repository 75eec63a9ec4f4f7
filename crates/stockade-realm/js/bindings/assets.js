// The site's own files, by `fetch` alone.

(function () {
const { core } = __bootstrap;
const { fetcher } = core.loadExtScript("ext:stockade_realm/fetcher.js");

return { create: fetcher };
})();
