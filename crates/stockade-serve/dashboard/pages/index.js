// All pages, in the order of the navigation.

import { html } from "../vendor/libraries.js";
import { Empty, Heading } from "../parts.js";
import { Audit } from "./audit.js";
import { Configuration } from "./configuration.js";
import { Deployments } from "./deployments.js";
import { Instance } from "./instance.js";
import { Keys } from "./keys.js";
import { Overview } from "./overview.js";
import { Profiles } from "./profiles.js";
import { Usage } from "./usage.js";

export const PAGES = [
  { name: "overview", title: "Overview", view: Overview },
  { name: "instances", title: "Instance", view: Instance, listed: false, under: "overview" },
  { name: "deployments", title: "Deployments", view: Deployments },
  { name: "keys", title: "API keys", view: Keys },
  { name: "audit", title: "Audit", view: Audit },
  { name: "usage", title: "Usage", view: Usage },
  { name: "profiles", title: "Profiles", view: Profiles },
  { name: "configuration", title: "Configuration", view: Configuration },
];

const MISSING = {
  title: "No such page",
  view: () => html`<${Heading}>No such page<//><${Empty} title="The address names no page."><p>Choose one in the navigation.</p><//>`,
};

/** The page that a hash like `#/instances/shop` names, and what stands after the page's name. */
export function pageOf(hash) {
  const [name, ...rest] = hash.replace(/^#\/?/, "").split("/").map(decoded);
  return { page: name === "" ? PAGES[0] : PAGES.find((page) => page.name === name) ?? MISSING, rest };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
