// Runs in pages of `stockade dev`: loads the page again when the code changed, and shows why a change is not in use.
// Texts come from the developer's files and from guests, so they are only ever text.
let version;
let box;

function show(problem) {
  box?.remove();
  box = undefined;
  if (!problem) return;
  box = document.createElement("div");
  const root = box.attachShadow({ mode: "closed" });
  const text = document.createElement("pre");
  text.textContent = problem;
  text.style.cssText = "position:fixed;inset:auto 0 0 0;max-height:60vh;overflow:auto;margin:0;padding:16px 20px;"
    + "background:#1b1b1f;color:#ffb4ab;border-top:3px solid #e5484d;font:13px/1.5 ui-monospace,monospace;"
    + "white-space:pre-wrap;z-index:2147483647";
  root.append(text);
  document.documentElement.append(box);
}

const events = new EventSource("/.stockade/dev/events");
events.addEventListener("message", ({ data }) => {
  const state = JSON.parse(data);
  if (version !== undefined && version !== state.version) {
    events.close();
    location.reload();
    return;
  }
  version = state.version;
  show(state.problem);
});
