//! Short runs of every bench: they end, what they print adds up, every message was compared. No figure is judged: this
//! machine may be busy.

mod common;

use common::Place;
use serde_json::Value;

/// One bench with few messages: what it found, after the checks that hold for all of them.
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
            let order = ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|name| times[name].as_f64().unwrap());
            assert!(order.is_sorted(), "{row}");
        }
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "something is left behind");
    found
}

/// Nine figures with their median and spread.
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
    assert!(rows(&found).iter().all(|row| row["count"] == 90 && row["floors"][0]["name"] == "raw cache line"), "{found}");
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
    assert_eq!(rows(&found)[1]["targets"][0]["id"], "P4");
}

#[test]
fn stream_with_parking_is_compared_with_spinning() {
    let found = bench("stream -s 64 -c 9000 --idle park");
    assert_eq!(rows(&found)[0]["floors"][1]["name"], "spsc spin");
    assert!(rows(&found)[0]["targets"].as_array().unwrap().iter().any(|target| target["id"] == "P5"), "{found}");
}

#[test]
fn an_open_loop_that_cannot_be_kept_up_says_so() {
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
fn other_formats() {
    let place = Place::new();
    let block = place.run("bench ping-pong -s 100 -c 90 --format ipc-bench").succeeds().text();
    let block: Vec<_> = block.lines().collect();
    assert_eq!(block[1..4], ["============ RESULTS ================", "Message size:       100", "Message count:      90"]);
    let names = block[4..9].iter().map(|line| line.split(':').next().unwrap());
    let expected = ["Total duration", "Average duration", "Minimum duration", "Maximum duration", "Standard deviation"];
    assert!(names.eq(expected), "{block:?}");
    assert!(block[9].starts_with("Message rate:       ") && block[9].ends_with("\tmsg/s"), "{block:?}");

    let table = place.run("bench ping-pong -s 64,100 -c 90 --format csv").succeeds().text();
    let columns: Vec<_> = table.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns, [20, 20, 20], "{table}");

    let table = place.run("bench ping-pong -s 64 -c 90").succeeds().text();
    assert!(table.contains("P1: "), "{table}");
}

#[test]
fn what_cannot_work_is_usage() {
    let place = Place::new();
    place.run("bench ping-pong -s 7").fails(2, "a message needs 8 bytes");
    place.run("bench ping-pong --cpu 0,4095").fails(2, "processor 4095 is not ours");
    place.run("bench ping-pong -s 100000 --capacity 4096").fails(2, "do not fit");
    place.run("bench wakeup --idle spin").fails(2, "park or backoff");
    place.run("bench ping-pong -c 0").fails(2, "0 is not in");
}
