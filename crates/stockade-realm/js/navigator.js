// `navigator`: by what name a guest's platform goes. https://min-common-api.proposal.wintertc.org/

(function () {
const { core, primordials } = __bootstrap;
const { ObjectDefineProperty } = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");

let name = "";

class Navigator {
  constructor() {
    webidl.illegalConstructor();
  }

  get userAgent() {
    webidl.assertBranded(this, NavigatorPrototype);
    return name;
  }
}
webidl.configureInterface(Navigator);
const NavigatorPrototype = Navigator.prototype;

const navigator = webidl.createBranded(Navigator);
ObjectDefineProperty(globalThis, "Navigator", core.propNonEnumerable(Navigator));
ObjectDefineProperty(globalThis, "navigator", core.propGetterOnly(() => navigator));

// Once, before any guest code.
function configure(userAgent) {
  name = userAgent;
}

return { configure };
})();
