//! A directory for the rings of one test, in memory where `/dev/shm` exists.

use std::path::{Path, PathBuf};

/// Removed with its contents when dropped.
pub struct TestDir(pub PathBuf);

impl TestDir {
    /// `name` distinguishes it from other directories of this process.
    pub fn new(name: &str) -> Self {
        let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let dir = base.join(format!("slipring-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        TestDir(dir)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
