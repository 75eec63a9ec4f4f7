//! A developer's project, as `stockade init`, `dev`, `types` and `test` have it.
//!
//! [`Project::find`] says what a path means, and [`Project::prepare`] makes the configuration of a development server
//! of it: what a stockade.yaml or a [wrangler file](read_wrangler) states, with code [bundled](bundle()) where it
//! imports packages. [`project_files`] are the templates of new projects, and [`env_types`] the types of a site's `env`.
//!
//! The developer, the project's files and the programs in its packages are trusted as far as they are by the
//! developer's other tools; what they write is bounded all the same. No code of the project runs here.
//!
//! Deliberately absent: the server, isolates, V8, the command line.

mod bundle;
mod certificate;
mod find;
mod make;
mod templates;
mod test_modules;
mod types;
mod wrangler;
mod yaml;

pub use bundle::{Bundle, BundleError, TIMEOUT, bundle, end_bundlers};
pub use certificate::{CertificateError, LocalCertificate, local_certificate};
pub use find::{FindError, Project, Settings, project_root};
pub use make::{MakeOptions, Prepared, Problem, ShownFiles};
pub use templates::{
    InitError, SCHEMA_FILE, Template, configuration_text, project_files, schema_text, write_files,
};
pub use test_modules::{
    TestFilesError, TestModules, find_test_files, is_of_test_library, test_modules,
};
pub use types::{DECLARATIONS, ENV_FILE, env_types};
pub use wrangler::{Converted, Note, WranglerError, read_wrangler};
