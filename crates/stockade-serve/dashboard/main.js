// The frame of the dashboard: log-in, navigation, and the page that the address names.

import { html, render, useEffect, useState } from "./vendor/libraries.js";
import { close, onClosed, open } from "./api.js";
import { announce, Field, Problem } from "./parts.js";
import { PAGES, pageOf } from "./pages/index.js";

const THEMES = ["system", "light", "dark"];

function storedTheme() {
  try {
    const stored = localStorage.getItem("theme");
    return THEMES.includes(stored) ? stored : "system";
  } catch {
    return "system";
  }
}

function useTheme() {
  const [theme, setTheme] = useState(storedTheme);
  const [system, setSystem] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setSystem(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  const drawn = theme === "system" ? (system ? "dark" : "light") : theme;
  Object.assign(document.documentElement.dataset, { theme, drawn });
  const choose = (event) => {
    setTheme(event.target.value);
    try {
      localStorage.setItem("theme", event.target.value);
    } catch {
      // The choice holds until the page is closed.
    }
  };
  return { theme, drawn, choose };
}

const Theme = ({ theme, choose }) => html`<label class="theme"><span>Theme</span>
  <select value=${theme} onChange=${choose}>${THEMES.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>`;

function Login({ why, opened, theme }) {
  const [error, setError] = useState();
  const [busy, setBusy] = useState(false);
  useEffect(() => document.getElementById("field-key").focus(), []);
  const send = async (event) => {
    event.preventDefault();
    const field = event.target.elements.key;
    setBusy(true);
    setError(undefined);
    try {
      await open(field.value.trim());
      field.value = "";
      opened();
    } catch (failed) {
      setError(failed);
      setBusy(false);
      field.focus();
    }
  };
  return html`<main class="login">
    <form onSubmit=${send}>
      <input class="hidden" type="text" autocomplete="username" value="Stockade" tabindex="-1" aria-hidden="true" readonly />
      <h1><img src="/dashboard/icon.svg" alt="" width="32" height="32" /> Stockade</h1>
      ${why && html`<p role="status">${why}</p>`}
      <${Field} label="API key" name="key" type="password" required autocomplete="current-password"
        hint="A key with the scope admin. It stays in the memory of this page only, so it is needed again after a reload." />
      <${Problem} error=${error} />
      <button class="primary" disabled=${busy}>Log in</button>
      <details><summary>Where do I get a key?</summary>
        <p>On the server, as its user:</p><pre>stockade keys create me --scope admin</pre></details>
    </form>
    <${Theme} ...${theme} />
  </main>`;
}

function Frame({ theme }) {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const changed = () => setHash(location.hash);
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  const { page, rest } = pageOf(hash);
  useEffect(() => {
    document.title = `${page.title} – Stockade`;
    announce(page.title);
    scrollTo(0, 0);
  }, [hash]);
  const skip = (event) => {
    event.preventDefault();
    document.getElementById("content").focus();
  };
  return html`<a class="skip" href="#content" onClick=${skip}>Skip to the content</a>
    <div class="frame">
      <header class="side">
        <p class="brand"><img src="/dashboard/icon.svg" alt="" width="24" height="24" /> Stockade</p>
        <nav aria-label="Pages"><ul>${PAGES.filter((one) => one.listed !== false).map((one) => html`<li key=${one.name}>
          <a href=${`#/${one.name}`} aria-current=${one === page || one.name === page.under ? "page" : undefined}>${one.title}</a></li>`)}</ul></nav>
        <div class="bottom"><${Theme} ...${theme} />
          <button type="button" onClick=${() => close("You are logged out.")}>Log out</button></div>
      </header>
      <main id="content" tabindex="-1" key=${hash}><${page.view} rest=${rest} theme=${theme.drawn} /></main>
    </div>`;
}

function App() {
  const [session, setSession] = useState({ state: "asking" });
  const theme = useTheme();
  useEffect(() => {
    onClosed((why) => setSession({ state: "closed", why }));
    // A listener that knows its clients by certificate needs no key.
    open("").then(() => setSession({ state: "open" }), () => setSession({ state: "closed" }));
  }, []);
  if (session.state === "asking") return null;
  if (session.state === "closed") return html`<${Login} why=${session.why} opened=${() => setSession({ state: "open" })} theme=${theme} />`;
  return html`<${Frame} theme=${theme} />`;
}

render(html`<${App} />`, document.getElementById("app"));
