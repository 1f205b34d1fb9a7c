//! The demo succeeds, and leaves no files behind.

use crate::common::{Place, noise};

#[test]
fn the_demo_loses_no_frame_and_leaves_nothing() {
    let place = Place::new();
    let small = place.file("small");
    std::fs::write(&small, noise(1 << 20, 5)).unwrap();
    let total = if std::env::var_os("SLIPRING_TESTS").is_some_and(|how| how == "full") { 512 << 20 } else { 16 << 20 };
    let run = place.run(&format!("demo --json --file {} --total {total}", small.display())).succeeds();
    let found: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(found["kill"]["missing"], 0);
    assert!(found["kill"]["redelivered"].as_u64() >= Some(1), "{found}");
    assert!(found["kill"]["frames_after_kills"].as_u64() > Some(0), "{found}");
    for kind in ["spsc", "mpmc"] {
        assert_eq!(found["file"][kind]["bytes"], total, "{kind}");
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "the demo left files behind");
}
