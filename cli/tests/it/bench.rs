//! Short runs of every bench: each ends, its output is consistent, and every message was compared.
//! No figure is checked against a limit: the machine may be busy.

use crate::common::{Place, run, wait_until};
use serde_json::Value;

/// Runs one bench with few messages, makes the checks that hold for all benches, and returns its
/// JSON.
fn bench(arguments: &str) -> Value {
    let place = Place::new();
    let found = place.json(&format!("bench {arguments}"));
    let results = found["results"].as_array().unwrap();
    assert!(!results.is_empty(), "{found}");
    assert!(found["machine"]["processors"].as_u64() >= Some(1), "{found}");
    for row in results {
        positive(&row["ns"]);
        for floor in row["floors"].as_array().unwrap() {
            positive(&floor["ns"]);
            positive(&floor["ratio"]);
        }
        assert!(!row["floors"].as_array().unwrap().is_empty(), "a figure without a floor: {row}");
        assert_eq!(row["count"], row["verified"], "{row}");
        assert!(row["count"].as_u64() > Some(0), "{row}");
        let times = &row["times"];
        if times.is_object() {
            let order =
                ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|name| times[name].as_f64().unwrap());
            assert!(order.is_sorted(), "{row}");
        }
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "the bench left files behind");
    found
}

/// Checks a series of nine figures, its median and spread.
fn positive(series: &Value) {
    assert_eq!(series["runs"].as_array().unwrap().len(), 9, "{series}");
    let [least, median, most] = ["min", "median", "max"].map(|name| series[name].as_f64().unwrap());
    assert!(0.0 < least && least <= median && median <= most, "{series}");
}

fn rows(found: &Value) -> &[Value] {
    found["results"].as_array().unwrap()
}

#[test]
fn ping_pong() {
    let found = bench("ping-pong -s 8,100,70000 -c 90");
    let sizes: Vec<_> = rows(&found).iter().map(|row| row["size"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [8, 100, 70_000]);
    assert!(
        rows(&found).iter().all(|row| row["count"] == 90 && row["floors"][0]["name"] == "raw cache line"),
        "{found}"
    );
}

#[test]
fn ping_pong_between_threads_in_an_open_loop() {
    let found = bench("ping-pong -s 64 -c 90 --threads --rate 10k/s --idle park");
    assert_eq!(rows(&found)[0]["count"], 90);
    assert_eq!(found["how"], "round trips between two threads, begun 10.0 k/s");
}

#[test]
fn stream() {
    let found = bench("stream -s 64,65536 -c 900");
    for row in rows(&found) {
        let gigabytes = row["messages_per_s"].as_f64().unwrap() * row["size"].as_f64().unwrap() / 1e9;
        assert!((gigabytes / row["gb_per_s"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{row}");
        assert_eq!(row["floors"][0]["name"], "bulk copy");
    }
    assert_eq!(rows(&found)[1]["targets"][0]["what"], "stream of 64 KiB messages ÷ bulk copy, in time");
}

#[test]
fn stream_with_parking_is_compared_with_spinning() {
    let found = bench("stream -s 64 -c 9000 --idle park");
    assert_eq!(rows(&found)[0]["floors"][1]["name"], "spsc spin");
    assert!(
        rows(&found)[0]["targets"]
            .as_array()
            .unwrap()
            .iter()
            .any(|target| target["what"] == "stream of 64 bytes, parking ÷ spinning"),
        "{found}"
    );
}

#[test]
fn an_open_loop_that_misses_its_rate_is_reported() {
    let found = bench("stream -s 4096 -c 900 --rate 1000M/s");
    assert_eq!(rows(&found)[0]["unit"], "one way");
    let notes = found["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note.as_str().unwrap().contains("the rate was not reached")), "{found}");
}

#[test]
fn wakeup() {
    let found = bench("wakeup -c 90");
    assert_eq!(rows(&found)[0]["floors"][0]["name"], "raw futex");
    assert!(rows(&found)[0]["more"]["kernel_calls_per_round_trip"].as_f64() > Some(0.0), "{found}");
}

#[test]
fn under_load() {
    let found = bench("under-load -c 90 --busy 0,2");
    assert_eq!(rows(&found).len(), 2);
    assert_eq!(rows(&found)[1]["what"], "spsc park, 2 busy");
}

#[test]
fn mpmc() {
    let found = bench("mpmc -c 9000 --pairs 1,3");
    let names: Vec<_> = rows(&found).iter().map(|row| row["what"].as_str().unwrap()).collect();
    assert_eq!(names, ["mpmc park, 1+1", "mpmc park, 3+3"]);
    assert!(rows(&found).iter().all(|row| row["count"].as_u64() >= Some(9000)), "{found}");
}

#[test]
fn matrix() {
    let found = bench("matrix -s 64 -c 900");
    assert_eq!(rows(&found).len(), 16, "two kinds, four ways to wait, round trips and streams");
}

/// The System V queues of benchmarks, of this one or of an earlier one that was killed.
fn queues() -> Vec<u32> {
    let table = std::fs::read_to_string("/proc/sysvipc/msg").unwrap_or_default();
    let keys = table.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    keys.filter(|key| (0x5B00_0000..0x5C00_0000).contains(key)).collect()
}

#[test]
fn transports() {
    let before = queues();
    let found = bench("transports -c 90");
    let names: Vec<_> = rows(&found).iter().map(|row| row["what"].as_str().unwrap()).collect();
    let all = ["pipe", "fifo", "mq", "sysv", "unix", "seqpacket", "dgram", "tcp", "udp", "signal", "bell"];
    assert_eq!(names, all);
    for row in rows(&found) {
        assert_eq!(row["floors"][0]["name"], "bare calls");
        let target = row["targets"][0]["what"].as_str().unwrap();
        assert!(target.starts_with("round trip of ") && target.ends_with(" ÷ bare calls"), "{row}");
        assert!(row["count"].as_u64() >= Some(90), "{row}");
    }
    let left: Vec<_> = queues().into_iter().filter(|key| !before.contains(key)).collect();
    assert!(left.is_empty(), "the bench left queues behind: {left:#x?}");
}

#[test]
fn relay() {
    let found = bench("relay -c 9000");
    assert_eq!(rows(&found)[0]["floors"][0]["name"], "one write each");
    assert_eq!(
        rows(&found)[0]["targets"][0]["what"],
        "64 bytes from ring to ring through a pipe ÷ one write each, in time",
        "{found}"
    );
    assert!(rows(&found)[0]["count"].as_u64() >= Some(9000), "{found}");
}

#[test]
fn attach() {
    let found = bench("attach -c 18");
    assert!(rows(&found).iter().all(|row| row["count"] == 18 && row["floors"][0]["name"] == "bare file"), "{found}");
}

#[test]
fn idle() {
    let found = bench("idle -c 9");
    assert_eq!(rows(&found)[0]["targets"][0]["what"], "processor time of a parked receiver, in percent");
}

/// Short runs: the targets are printed, whether they hold or not.
#[test]
fn waitset() {
    let place = Place::new();
    let found = place.json("bench waitset -c 900");
    for row in rows(&found) {
        assert_eq!(row["count"], row["verified"], "{row}");
        assert!(row["targets"][0]["at_most"].as_f64() > Some(0.0), "{row}");
    }
    let trial = rows(&found).iter().filter(|row| row["what"].as_str().unwrap().starts_with("8 senders"));
    assert!(trial.map(|row| row["count"].as_u64()).eq([Some(904); 3]), "{found}");
}

#[test]
fn doctor() {
    let place = Place::new();
    let lines = place.run("bench doctor --json").succeeds().text();
    let checks: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(checks.iter().any(|check| check["check"] == "governor"), "{lines}");
    for check in &checks {
        assert_eq!(check["verdict"] == "OK", check["fix"].is_null(), "a warning without a fix: {check}");
    }
}

#[test]
fn pictures() {
    let place = Place::new();
    for arguments in ["ping-pong -s 64,100 -c 90", "stream -s 64,4096 -c 900"] {
        let path = place.file("picture.svg");
        place.run(&format!("bench {arguments} --svg {}", path.display())).succeeds();
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}

#[test]
fn the_death_of_a_side_is_an_error_and_no_hang() {
    let place = Place::new();
    for arguments in ["stream -s 64 -c 100000000000", "mpmc -c 100000000000", "idle -t 1h"] {
        let mut process = place.start(&format!("bench {arguments}"));
        let pid = process.child().id();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let child = loop {
            let pids = std::fs::read_to_string(&children).unwrap();
            if let Some(pid) = pids.split(' ').find(|pid| !pid.is_empty()) {
                break pid.to_owned();
            }
            std::thread::yield_now();
        };
        assert!(run("kill", &["-9", &child]));
        process.finish().fails(1, "failed: signal: 9");
    }
}

#[test]
fn the_death_of_a_side_is_told_in_json() {
    let place = Place::new();
    // A bare wait for a signal does not end with the other side: then a watching thread tells.
    let mut process = place.start("bench transports signal -t 1h --json");
    let pid = process.child().id();
    let children = format!("/proc/{pid}/task/{pid}/children");
    wait_until("both sides exchange", || {
        let pids = std::fs::read_to_string(&children).unwrap();
        let stat = pids.split_whitespace().next().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")));
        // The processor time of the other side, in ticks.
        let stat = stat.and_then(Result::ok).unwrap_or_default();
        stat.split(' ').skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() >= 3
    });
    let pids = std::fs::read_to_string(&children).unwrap();
    assert!(run("kill", &["-9", pids.split_whitespace().next().unwrap()]));
    let ended = process.finish();
    assert_ne!(ended.code, 0);
    let told: Vec<serde_json::Value> = ended.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(told.iter().any(|line| line["code"] == ended.code), "{told:?}");
}

#[test]
fn one_of_two_receivers_that_dies_in_mid_run_ends_the_bench() {
    let place = Place::new();
    let mut process = place.start("bench mpmc --pairs 2 -c 100000000000");
    let pid = process.child().id();
    let children = format!("/proc/{pid}/task/{pid}/children");
    let is_attached = |pid: &&str| {
        std::fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains("memfd:slipring "))
    };
    wait_until("all four are attached", || {
        let pids = std::fs::read_to_string(&children).unwrap();
        pids.split_whitespace().filter(is_attached).count() == 4
    });
    let pids = std::fs::read_to_string(&children).unwrap();
    assert!(run("kill", &["-9", pids.split_whitespace().next().unwrap()]));
    process.finish().fails(1, "failed: signal: 9");
}

#[test]
fn other_formats() {
    let place = Place::new();
    let block = place.run("bench ping-pong -s 100 -c 90 --format ipc-bench").succeeds().text();
    let block: Vec<_> = block.lines().collect();
    assert_eq!(
        block[1..4],
        ["============ RESULTS ================", "Message size:       100", "Message count:      90"]
    );
    let names = block[4..9].iter().map(|line| line.split(':').next().unwrap());
    let expected = ["Total duration", "Average duration", "Minimum duration", "Maximum duration", "Standard deviation"];
    assert!(names.eq(expected), "{block:?}");
    assert!(block[9].starts_with("Message rate:       ") && block[9].ends_with("\tmsg/s"), "{block:?}");

    let table = place.run("bench ping-pong -s 64,100 -c 90 --format csv").succeeds().text();
    let columns: Vec<_> = table.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns, [20, 20, 20], "{table}");

    let table = place.run("bench ping-pong -s 64 -c 90").succeeds().text();
    assert!(table.contains("round trip of 64 bytes ÷ raw cache line: "), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

#[test]
fn options_that_cannot_work_are_usage_errors() {
    let place = Place::new();
    place.run("bench ping-pong -s 7").fails(2, "a message needs 8 bytes");
    place.run("bench ping-pong --cpu 0,4095").fails(2, "processor 4095 is not available");
    place.run("bench ping-pong -s 100000 --capacity 4096").fails(2, "do not fit");
    place.run("bench wakeup --idle spin").fails(2, "park or backoff");
    place.run("bench ping-pong -c 0").fails(2, "0 is not in");
}
