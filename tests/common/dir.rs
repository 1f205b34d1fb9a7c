//! A directory for the rings, sockets and FIFOs of one test.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Removed with its contents when dropped.
pub struct TestDir(pub PathBuf);

impl TestDir {
    /// For rings: private, and in memory where `/dev/shm` exists. `name` shows whose it is.
    pub fn new(name: &str) -> Self {
        let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        Self::within(&base, name, 0o700)
    }

    /// With this mode, whatever the umask, and where programs can be executed.
    pub fn with_mode(name: &str, mode: u32) -> Self {
        Self::within(&std::env::temp_dir(), name, mode)
    }

    fn within(base: &Path, name: &str, mode: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("slipring-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(mode)).unwrap();
        TestDir(dir)
    }

    /// The path of a file in it.
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// The path of a socket in it.
    pub fn socket(&self) -> PathBuf {
        self.file("socket")
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
