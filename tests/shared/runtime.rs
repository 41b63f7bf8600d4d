//! The runtime under test, for all suites.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The search path of the runtime and of what it starts on the host. A plain user's lacks the sbin
/// directories, where distributions put runc.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The absolute path of the runtime under test: `RUNTIME` (a path, or a name in `PATH`), else the bryo that
/// cargo built with this suite.
pub fn runtime() -> &'static Path {
    static RUNTIME: OnceLock<PathBuf> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let asked = match std::env::var_os("RUNTIME") {
            Some(name) if !name.is_empty() => PathBuf::from(name),
            _ => PathBuf::from(env!("CARGO_BIN_EXE_bryo")),
        };
        if asked.components().count() > 1 {
            return std::fs::canonicalize(&asked).unwrap_or_else(|e| panic!("RUNTIME {asked:?}: {e}"));
        }
        PATH.split(':')
            .map(|dir| Path::new(dir).join(&asked))
            .find(|path| path.is_file())
            .unwrap_or_else(|| panic!("RUNTIME {asked:?} is not in {PATH}"))
    })
}
