use std::fs::{Permissions, create_dir_all, set_permissions, write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

struct Folder {
    folder: tempfile::TempDir,
    work: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            work: tempfile::tempdir().unwrap(),
        }
    }

    fn put(&self, name: &str, text: &str) -> &Self {
        let path = self.folder.path().join(name);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(path, text).unwrap();
        self
    }

    fn put_bundler(&self, script: &str) {
        let bundler = "node_modules/.bin/esbuild";
        self.put(bundler, &format!("#!/bin/sh\n{script}\n"));
        let bundler = self.folder.path().join(bundler);
        set_permissions(bundler, Permissions::from_mode(0o755)).unwrap();
    }

    fn prepare(&self, path: &str) -> Result<Prepared, Problem> {
        let project = Project::find(&self.folder.path().join(path)).unwrap();
        project.prepare(&self.options())
    }

    fn options(&self) -> MakeOptions {
        MakeOptions {
            address: "127.0.0.1:8787".parse().unwrap(),
            tls: None,
            isolation: Some(Isolation::Process),
            allow_fetch: vec!["api.example.com".to_owned()],
            work: self.work.path().to_owned(),
            data: None,
        }
    }
}

fn urls(site: &Instance) -> Vec<String> {
    site.urls.iter().map(ToString::to_string).collect()
}

const SITE: &str = "export default { fetch() { return new Response('x') } }";

#[test]
fn source_map_of_a_package_shows_no_file_but_code_of_the_project() {
    let map = STANDARD.encode(
        r#"{"version":3,"sources":["src/a.ts","../secret.ts","/etc/passwd",".env","key.json"],"mappings":""}"#,
    );
    let folder = Folder::new();
    folder.put_bundler(&format!(
        "echo \"{SITE}\"\nprintf '\\n//# sourceMappingURL=data:application/json;base64,{map}\\n'"
    ));
    folder.put("package.json", "{}");
    folder.put("index.ts", &format!("import 'package'; {SITE}"));
    let (root, shown) = folder.prepare(".").unwrap().files;
    assert_eq!(shown, [root.join("src/a.ts"), root.join("index.ts")]);
}

#[test]
fn bundle_of_the_same_code_is_no_change_and_the_one_in_use_is_kept() {
    let folder = Folder::new();
    folder.put("index.ts", &format!("import 'package'; {SITE}"));
    let make = |code: &str| {
        folder.put_bundler(&format!("echo \"{SITE} // {code}\""));
        let made = folder.prepare(".").unwrap();
        let code = made.loaded.config.instances[NAME].code.clone();
        let path = code.unwrap();
        let data = path.metadata().unwrap();
        (path, data.ino(), data.modified().unwrap())
    };
    let first = make("first");
    assert_eq!(make("first"), first);
    for number in 0..2 * KEPT_BUNDLES {
        // What is in use has been used after each of the others.
        make(&number.to_string());
        assert_eq!(make("first"), first);
    }
    let kept = first.0.parent().unwrap().read_dir().unwrap().count();
    assert!(kept <= KEPT_BUNDLES, "{kept}");
}

#[test]
fn texts_that_code_imports_are_not_read_as_code() {
    let folder = Folder::new();
    folder.put_bundler(&format!("echo \"{SITE}\""));
    for name in ["page.html", "query.sql", "words.txt"] {
        // It has no syntax that a module could have.
        folder.put(name, "<p>it's</p>");
        folder.put("index.ts", &format!("import text from './{name}'; {SITE}"));
        let made = folder.prepare(".").map_err(|problem| problem.text);
        assert!(made.is_ok(), "{name}: {:?}", made.err());
    }
    folder.put("page.ts", "<p>it's</p>");
    folder.put("index.ts", &format!("import './page.ts'; {SITE}"));
    let problem = folder.prepare(".").unwrap_err();
    assert!(problem.text.contains("SyntaxError"), "{}", problem.text);
}

#[test]
fn file_without_settings_is_a_site_on_this_machine_alone() {
    let folder = Folder::new();
    folder.put("a.ts", &format!("import {{ b }} from './b.ts'; b; {SITE}"));
    folder.put("b.ts", "export const b: number = 1");
    let made = folder.prepare("a.ts").unwrap();
    let site = &made.loaded.config.instances[NAME];
    assert_eq!(
        urls(site),
        ["localhost", "127.0.0.1", "[::1]", "*.localhost"]
    );
    assert_eq!(site.isolation, Isolation::Process);
    assert_eq!(site.data_guard.rules.len(), 1);
    assert_eq!(made.loaded.config.listeners.len(), 1);
    assert_eq!(made.files.1.len(), 2);
    assert!(site.state.is_none() && !folder.folder.path().join(DATA).exists());
}

#[test]
fn settings_hold_except_for_addresses() {
    let folder = Folder::new();
    folder.put("dist/index.js", SITE).put("src/index.js", SITE);
    folder.put(
        "stockade.yaml",
        "version: \"1.0\"\nlisteners: [{address: \"0.0.0.0:80\"}]\ninstances:\n  shop:\n    code: ./dist\n    urls: [shop.example.com]\n    \
         limits: {memory: 32mb}\n    state: true\n    mirrors: 5\n    env: {A: 1}\n    receipts: ./receipt.key\n",
    );
    let made = folder.prepare(".").unwrap();
    let config = &made.loaded.config;
    let site = &config.instances["shop"];
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:8787");
    assert_eq!(site.limits.memory, 32 << 20);
    assert_eq!(site.scaling, Scaling::Fixed(1));
    assert_eq!(site.receipts, None);
    assert_eq!(urls(site)[0], "localhost");
    assert!(site.code.as_ref().unwrap().ends_with("dist"));
    assert!(folder.folder.path().join(".stockade/.gitignore").exists());
    let made = folder.prepare("src/index.js").unwrap();
    let site = &made.loaded.config.instances["shop"];
    assert!(site.code.as_ref().unwrap().ends_with("src/index.js"));
    assert_eq!(site.limits.memory, 32 << 20);
    folder.put(
        "stockade.yaml",
        "version: \"1.0\"\ninstances:\n  a: {code: ./dist, urls: [a.example]}\n  b: {code: ./src, urls: [b.example]}\n  c: {code: ./src}\n",
    );
    let made = folder.prepare(".").unwrap();
    let sites = &made.loaded.config.instances;
    assert_eq!(urls(&sites["b"]), ["b.localhost"]);
    assert!(urls(&sites["c"]).is_empty());
}

#[test]
fn wrangler_file_is_taken_with_its_variables() {
    let folder = Folder::new();
    folder.put("src/index.ts", SITE);
    folder.put("wrangler.toml", "name = 'w'\nmain = 'src/index.ts'\n[vars]\nA = 'file'\nB = 'x'\n[[queues.producers]]\nqueue = 'q'");
    folder.put(
        ".dev.vars",
        "# mine\nA=\"mine\\nown\"\nexport C='c' \n1X=no\nnothing\n",
    );
    let made = folder.prepare(".").unwrap();
    let env = &made.loaded.config.instances["w"].env;
    let env: Vec<String> = env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(env, ["A=\"mine\\nown\"", "B=\"x\"", "C=\"c\""]);
    let missing: Vec<String> = made.notes.iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["queues: there are no queues"]);
}

#[test]
fn errors_name_their_place_and_what_is_watched_is_bounded() {
    let folder = Folder::new();
    folder.put("index.ts", "const a = ;\n");
    let problem = folder.prepare(".").unwrap_err();
    assert!(
        problem.text.starts_with("index.ts:1:11: SyntaxError"),
        "{}",
        problem.text
    );
    folder
        .put("wrangler.toml", "main = 'src/a.ts'")
        .put("src/a.ts", "let a = ;");
    let problem = folder.prepare(".").unwrap_err();
    assert!(
        problem.text.starts_with("src/a.ts:1:9: SyntaxError"),
        "{}",
        problem.text
    );
    std::fs::remove_file(folder.folder.path().join("wrangler.toml")).unwrap();
    folder.put("index.ts", "import './later';\n");
    symlink(".", folder.folder.path().join("circle")).unwrap();
    create_dir_all(folder.folder.path().join("many")).unwrap();
    for number in 0..10_000 {
        std::fs::File::create(folder.folder.path().join(format!("many/{number}.ts"))).unwrap();
    }
    let problem = folder.prepare(".").unwrap_err();
    assert!(
        problem.sources.len() <= MAX_WATCHED + 10,
        "{}",
        problem.sources.len()
    );
    assert!(!problem.sources.iter().any(|path| path.ends_with("circle")));
    folder.put("index.ts", SITE);
    std::fs::write(folder.folder.path().join("stockade.yaml"), "version: 2").unwrap();
    let problem = folder.prepare(".").unwrap_err();
    assert!(
        problem.text.contains("stockade.yaml:1:10"),
        "{}",
        problem.text
    );
    let project = Project::find(folder.folder.path()).unwrap();
    let waiting = project.waiting(&folder.options()).unwrap();
    assert_eq!(waiting.config.instances.len(), 1);
}
