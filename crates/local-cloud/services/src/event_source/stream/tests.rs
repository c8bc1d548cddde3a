use std::sync::Mutex;
use std::time::Duration;

use cloud_core::clock::Clock;
use cloud_core::random::Random;
use rusqlite::OptionalExtension;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::record::text;
use super::source::Source;
use super::*;

const ARN: &str = "arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/label";

/// A stream whose records a test appends.
#[derive(Clone)]
struct FakeStream(Arc<(Mutex<Vec<Value>>, watch::Sender<u64>)>);

impl FakeStream {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(Vec::new()), watch::channel(0).0)))
    }

    fn append(&self, key: &str) -> String {
        let mut records = self.0.0.lock().unwrap();
        let sequence = format!("{:021}", records.len() + 1);
        records.push(json!({ "eventName": "INSERT", "dynamodb": {
            "Keys": { "id": { "S": key } }, "SequenceNumber": sequence, "ApproximateCreationDateTime": 1_000 } }));
        self.0.1.send_modify(|ticks| *ticks += 1);
        sequence
    }
}

impl Source for FakeStream {
    async fn read(&mut self, after: Option<&str>) -> Result<Vec<Value>, AwsError> {
        let records = self.0.0.lock().unwrap();
        Ok(records
            .iter()
            .filter(|r| after.is_none_or(|after| sequence_of(r).as_str() > after))
            .cloned()
            .collect())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.1.subscribe()
    }

    fn shard(&self) -> &str {
        "shard-1"
    }
}

type Rule = Box<dyn Fn(&[String]) -> Delivery + Send + Sync>;

/// Answers deliveries from a rule and notes what it got.
struct Target {
    rule: Rule,
    delivered: watch::Sender<Vec<Vec<String>>>,
    /// Item and sequence number of each record, in order of delivery.
    sequences: Mutex<Vec<(String, String)>>,
    abandoned: watch::Sender<Vec<Abandoned>>,
    refusals_of_abandoned: Mutex<u32>,
}

impl Target {
    fn new(rule: impl Fn(&[String]) -> Delivery + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            rule: Box::new(rule),
            delivered: watch::channel(Vec::new()).0,
            sequences: Mutex::default(),
            abandoned: watch::channel(Vec::new()).0,
            refusals_of_abandoned: Mutex::new(0),
        })
    }

    fn delivered(&self) -> Vec<Vec<String>> {
        self.delivered.borrow().clone()
    }
}

fn keys(records: &[Value]) -> Vec<String> {
    records.iter().map(|r| text(&r["dynamodb"]["Keys"]["id"]["S"])).collect()
}

impl Consumer for Arc<Target> {
    fn wants(&self, record: &Value) -> bool {
        record["dynamodb"]["Keys"]["id"]["S"] != "unwanted"
    }

    async fn deliver(&self, records: Vec<Value>) -> Delivery {
        let names = keys(&records);
        let sequences = names.iter().cloned().zip(records.iter().map(sequence_of));
        self.sequences.lock().unwrap().extend(sequences);
        self.delivered.send_modify(|all| all.push(names.clone()));
        (self.rule)(&names)
    }

    fn note(&self, records: &[Value]) -> Value {
        json!(keys(records))
    }

    async fn abandon(&self, batch: Abandoned) -> Result<(), AwsError> {
        {
            let mut refusals = self.refusals_of_abandoned.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return Err(AwsError::client("QueueDoesNotExist", "no queue"));
            }
        }
        self.abandoned.send_modify(|all| all.push(batch));
        Ok(())
    }
}

fn settings() -> Settings {
    Settings {
        consumer: "test".into(),
        stream_arn: ARN.into(),
        start: StartingPosition::TrimHorizon,
        batch_size: 10,
        window: Duration::ZERO,
        lanes: 1,
        retries: None,
        max_age: None,
        bisect: false,
    }
}

fn cloud() -> Arc<Cloud> {
    crate::testing::open(cloud_core::Settings::for_tests(), Clock::manual(1_000_000), Random::seeded(1))
        .unwrap()
}

/// Runs a reader until `done`, moving the clock so that every pause ends at once.
async fn read_until(
    cloud: &Arc<Cloud>,
    settings: &Settings,
    stream: &FakeStream,
    target: &Arc<Target>,
    done: impl Fn() -> bool,
) {
    let stop = CancellationToken::new();
    let reading = futures::future::join_all(
        (0..settings.lanes).map(|lane| Lane::new(cloud, settings, target, stream.clone(), lane, &stop).run()),
    );
    tokio::pin!(reading);
    while !done() {
        tokio::select! {
            biased;
            _ = &mut reading => unreachable!("a reader never ends by itself"),
            () = tokio::task::yield_now() => cloud.clock.advance(Duration::from_secs(1)),
        }
    }
}

fn failed() -> Delivery {
    Delivery::Failed { reason: "no".into() }
}

fn checkpoint(cloud: &Cloud) -> Option<String> {
    let row = |c: &rusqlite::Connection| {
        c.query_row("SELECT sequence FROM stream_checkpoints WHERE consumer = 'test'", [], |r| r.get(0))
            .optional()
    };
    cloud.store.read(row).unwrap().flatten()
}

#[tokio::test]
async fn records_arrive_in_order_in_batches_of_the_batch_size_and_are_not_read_again_after_a_restart() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    let names: Vec<String> = (0..25).map(|n| format!("k{n}")).collect();
    names.iter().for_each(|name| drop(stream.append(name)));
    let target = Target::new(|_| Delivery::Done);
    read_until(&cloud, &settings(), &stream, &target, || {
        checkpoint(&cloud).is_some_and(|s| s.ends_with("25"))
    })
    .await;
    assert_eq!(target.delivered().iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    assert_eq!(target.delivered().concat(), names);

    stream.append("later");
    let restarted = Target::new(|_| Delivery::Done);
    read_until(&cloud, &settings(), &stream, &restarted, || !restarted.delivered().is_empty()).await;
    assert_eq!(restarted.delivered(), [["later"]]);
}

#[tokio::test]
async fn a_batch_under_way_at_a_crash_is_delivered_again() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    stream.append("a");
    let stuck = Target::new(|_| Delivery::NotStarted { reason: "throttled".into() });
    read_until(&cloud, &settings(), &stream, &stuck, || !stuck.delivered().is_empty()).await;
    let restarted = Target::new(|_| Delivery::Done);
    read_until(&cloud, &settings(), &stream, &restarted, || !restarted.delivered().is_empty()).await;
    assert_eq!(restarted.delivered(), [["a"]]);
}

#[tokio::test]
async fn latest_begins_after_the_records_that_are_there_at_deployment() {
    let (cloud, mut stream) = (cloud(), FakeStream::new());
    stream.append("before");
    let settings = Settings { start: StartingPosition::Latest, ..settings() };
    checkpoint::establish(&cloud, &mut stream, &settings).await.unwrap();
    stream.append("after");
    let target = Target::new(|_| Delivery::Done);
    read_until(&cloud, &settings, &stream, &target, || !target.delivered().is_empty()).await;
    assert_eq!(target.delivered(), [["after"]]);
}

#[tokio::test]
async fn latest_on_an_empty_stream_misses_nothing_that_comes_before_the_reader_starts() {
    let (cloud, mut stream) = (cloud(), FakeStream::new());
    let settings = Settings { start: StartingPosition::Latest, ..settings() };
    checkpoint::establish(&cloud, &mut stream, &settings).await.unwrap();
    stream.append("first");
    checkpoint::establish(&cloud, &mut stream, &settings).await.unwrap();
    let target = Target::new(|_| Delivery::Done);
    read_until(&cloud, &settings, &stream, &target, || !target.delivered().is_empty()).await;
    assert_eq!(target.delivered(), [["first"]]);
}

#[tokio::test]
async fn unwanted_records_are_passed_without_an_invocation() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    stream.append("unwanted");
    let last = stream.append("unwanted");
    let target = Target::new(|_| Delivery::Done);
    read_until(&cloud, &settings(), &stream, &target, || checkpoint(&cloud) == Some(last.clone())).await;
    assert!(target.delivered().is_empty());
}

#[tokio::test]
async fn a_window_collects_records_that_arrive_within_it() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    let settings = Settings { window: Duration::from_secs(60), batch_size: 3, ..settings() };
    stream.append("a");
    let target = Target::new(|_| Delivery::Done);
    let stop = CancellationToken::new();
    let lane = Lane::new(&cloud, &settings, &target, stream.clone(), 0, &stop).run();
    tokio::pin!(lane);
    let turn = async || {
        for _ in 0..20 {
            tokio::task::yield_now().await
        }
    };
    tokio::select! { biased; () = &mut lane => {}, () = turn() => {} }
    assert!(target.delivered().is_empty(), "the window is still open");
    stream.append("b");
    cloud.clock.advance(Duration::from_secs(60));
    tokio::select! { biased; () = &mut lane => {}, () = turn() => {} }
    assert_eq!(target.delivered(), [["a", "b"]]);
    for name in ["c", "d", "e"] {
        stream.append(name);
    }
    tokio::select! { biased; () = &mut lane => {}, () = turn() => {} }
    assert_eq!(target.delivered()[1], ["c", "d", "e"], "a full batch does not wait for its window");
}

#[tokio::test]
async fn a_failing_batch_is_retried_as_often_as_told_then_abandoned_whole() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    stream.append("a");
    let last = stream.append("b");
    stream.append("c");
    let settings = Settings { retries: Some(2), batch_size: 2, ..settings() };
    let target = Target::new(|names| if names.contains(&"b".into()) { failed() } else { Delivery::Done });
    *target.refusals_of_abandoned.lock().unwrap() = 2;
    read_until(&cloud, &settings, &stream, &target, || target.delivered().len() == 4).await;
    assert_eq!(target.delivered(), [vec!["a", "b"], vec!["a", "b"], vec!["a", "b"], vec!["c"]]);
    let abandoned = target.abandoned.borrow().clone();
    assert_eq!(abandoned.len(), 1);
    assert_eq!((abandoned[0].condition, abandoned[0].attempts), ("RetryAttemptsExhausted", 3));
    let info = &abandoned[0].batch_info;
    assert_eq!((&info["batchSize"], &info["endSequenceNumber"]), (&json!(2), &json!(last)));
    assert_eq!(info["approximateArrivalOfFirstRecord"], "1970-01-01T00:16:40Z");
}

#[tokio::test]
async fn bisecting_isolates_the_bad_record_and_does_not_count_as_a_retry() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    for name in ["a", "b", "bad", "d"] {
        stream.append(name);
    }
    let settings = Settings { retries: Some(1), bisect: true, ..settings() };
    let target = Target::new(|names| if names.contains(&"bad".into()) { failed() } else { Delivery::Done });
    read_until(&cloud, &settings, &stream, &target, || {
        target.delivered().last() == Some(&vec!["d".to_owned()])
    })
    .await;
    assert_eq!(
        target.delivered(),
        [vec!["a", "b", "bad", "d"], vec!["a", "b"], vec!["bad", "d"], vec!["bad"], vec!["bad"], vec!["d"]]
    );
    let abandoned = target.abandoned.borrow().clone();
    assert_eq!(abandoned.iter().flat_map(|b| keys(&b.records)).collect::<Vec<_>>(), ["bad"]);
}

#[tokio::test]
async fn a_partial_response_passes_what_came_before_the_lowest_failed_record() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    stream.append("a");
    let bad = stream.append("b");
    stream.append("c");
    let target = Target::new(move |names| match names.len() {
        3 => Delivery::FailedFrom { sequence: bad.clone(), reason: "no".into() },
        _ => Delivery::Done,
    });
    read_until(&cloud, &settings(), &stream, &target, || target.delivered().len() == 2).await;
    assert_eq!(target.delivered()[1], ["b", "c"]);
}

#[tokio::test]
async fn with_bisect_a_partial_response_splits_the_batch_where_it_says() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    stream.append("a");
    let bad = stream.append("b");
    stream.append("c");
    stream.append("d");
    let settings = Settings { bisect: true, retries: Some(0), ..settings() };
    let target = Target::new(move |names| match names.len() {
        4 => Delivery::FailedFrom { sequence: bad.clone(), reason: "no".into() },
        _ => Delivery::Done,
    });
    read_until(&cloud, &settings, &stream, &target, || target.delivered().len() == 2).await;
    assert_eq!(target.delivered()[1], ["b", "c", "d"], "neither halved nor counted");
}

#[tokio::test]
async fn retries_are_counted_on_after_a_restart() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    stream.append("a");
    stream.append("b");
    let settings = Settings { retries: Some(2), ..settings() };
    let first = Target::new(|_| failed());
    let counted = |cloud: &Cloud| -> String {
        let read = |c: &rusqlite::Connection| {
            c.query_row("SELECT batches FROM stream_retries", [], |row| row.get(0)).optional()
        };
        cloud.store.read(read).unwrap().unwrap_or_default()
    };
    read_until(&cloud, &settings, &stream, &first, || counted(&cloud).contains(r#""attempts":2"#)).await;
    assert_eq!(first.delivered().len(), 2);

    // What arrived meanwhile is not part of the batch that is tried again.
    stream.append("c");
    let second = Target::new(|names| if names.contains(&"a".into()) { failed() } else { Delivery::Done });
    read_until(&cloud, &settings, &stream, &second, || second.delivered().len() == 2).await;
    assert_eq!(second.delivered(), [vec!["a", "b"], vec!["c"]]);
    let abandoned = second.abandoned.borrow().clone();
    assert_eq!((abandoned[0].attempts, &abandoned[0].note), (3, &json!(["a", "b"])));
    assert_eq!(counted(&cloud), "", "nothing is left to try again");
}

#[tokio::test]
async fn the_halves_of_a_batch_stay_apart_over_a_restart() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    for name in ["a", "b", "bad", "d"] {
        stream.append(name);
    }
    let settings = Settings { bisect: true, ..settings() };
    let rule = |names: &[String]| if names.contains(&"bad".into()) { failed() } else { Delivery::Done };
    let first = Target::new(rule);
    read_until(&cloud, &settings, &stream, &first, || first.delivered().len() == 4).await;
    assert_eq!(first.delivered()[3], ["bad"]);
    let second = Target::new(|_| Delivery::Done);
    read_until(&cloud, &settings, &stream, &second, || second.delivered().len() == 2).await;
    assert_eq!(second.delivered(), [["bad"], ["d"]]);
}

#[tokio::test]
async fn a_batch_that_was_given_up_at_a_kill_is_not_delivered_again() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    stream.append("a");
    let settings = Settings { retries: Some(0), ..settings() };
    let first = Target::new(|_| failed());
    *first.refusals_of_abandoned.lock().unwrap() = u32::MAX;
    read_until(&cloud, &settings, &stream, &first, || {
        *first.refusals_of_abandoned.lock().unwrap() < u32::MAX - 2
    })
    .await;
    let second = Target::new(|_| Delivery::Done);
    read_until(&cloud, &settings, &stream, &second, || !second.abandoned.borrow().is_empty()).await;
    assert!(second.delivered().is_empty());
}

#[tokio::test]
async fn a_reader_that_is_stopped_ends_after_the_delivery_under_way() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    stream.append("a");
    stream.append("b");
    let settings = Settings { batch_size: 1, ..settings() };
    let stop = CancellationToken::new();
    let target = Target::new({
        let stop = stop.clone();
        move |_| {
            stop.cancel();
            Delivery::Done
        }
    });
    Lane::new(&cloud, &settings, &target, stream.clone(), 0, &stop).run().await;
    assert_eq!(target.delivered(), [["a"]]);
    let next = Target::new(|_| Delivery::Done);
    read_until(&cloud, &settings, &stream, &next, || !next.delivered().is_empty()).await;
    assert_eq!(next.delivered(), [["b"]], "what was delivered is not delivered again");
}

#[tokio::test]
async fn an_unknown_sequence_number_fails_the_whole_batch() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    stream.append("a");
    stream.append("b");
    let target = Target::new(|_| Delivery::FailedFrom { sequence: "77".into(), reason: "no".into() });
    read_until(&cloud, &settings(), &stream, &target, || target.delivered().len() == 2).await;
    assert_eq!(target.delivered()[1], ["a", "b"]);
}

#[tokio::test]
async fn throttled_deliveries_do_not_count_as_retries() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    stream.append("a");
    let settings = Settings { retries: Some(0), ..settings() };
    let target = Target::new(|_| Delivery::NotStarted { reason: "throttled".into() });
    read_until(&cloud, &settings, &stream, &target, || target.delivered().len() == 5).await;
    assert!(target.abandoned.borrow().is_empty());
}

#[tokio::test]
async fn records_above_the_maximum_age_go_to_the_destination_without_a_delivery() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    stream.append("old");
    cloud.clock.advance(Duration::from_secs(120));
    let settings = Settings { max_age: Some(Duration::from_secs(60)), ..settings() };
    let target = Target::new(|_| Delivery::Done);
    read_until(&cloud, &settings, &stream, &target, || !target.abandoned.borrow().is_empty()).await;
    assert!(target.delivered().is_empty());
    assert_eq!(target.abandoned.borrow()[0].condition, "RecordAgeExceeded");
}

#[tokio::test]
async fn records_of_one_item_stay_in_order_in_every_lane() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    for n in 0..60 {
        stream.append(&format!("item{}", n % 6));
    }
    let settings = Settings { lanes: 10, batch_size: 3, ..settings() };
    let calls = Mutex::new(0);
    // Every third delivery fails, and is tried again.
    let target = Target::new(move |_| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        if *calls % 3 == 0 { failed() } else { Delivery::Done }
    });
    let newest = || {
        let seen = target.sequences.lock().unwrap().clone();
        (0..6).all(|item| seen.contains(&(format!("item{item}"), format!("{:021}", 55 + item))))
    };
    read_until(&cloud, &settings, &stream, &target, newest).await;
    let mut seen = target.sequences.lock().unwrap().clone();
    let mut known = std::collections::HashSet::new();
    seen.retain(|record| known.insert(record.clone()));
    for item in 0..6 {
        let name = format!("item{item}");
        let first: Vec<_> =
            seen.iter().filter(|(key, _)| *key == name).map(|(_, sequence)| sequence).collect();
        assert!(first.len() == 10 && first.is_sorted(), "{name}: {first:?}");
    }
}

#[tokio::test]
async fn lanes_keep_the_order_of_each_item_and_survive_a_change_of_their_number() {
    let (cloud, stream) = (cloud(), FakeStream::new());
    for n in 0..40 {
        stream.append(&format!("item{}", n % 8));
    }
    let four = Settings { lanes: 4, batch_size: 1, ..settings() };
    let target = Target::new(|_| Delivery::Done);
    checkpoint::establish(&cloud, &mut stream.clone(), &four).await.unwrap();
    read_until(&cloud, &four, &stream, &target, || target.delivered().len() == 40).await;
    for item in 0..8 {
        let name = format!("item{item}");
        assert_eq!(target.delivered().concat().iter().filter(|n| **n == name).count(), 5);
    }
    let last = stream.append("new");
    let two = Settings { lanes: 2, ..settings() };
    checkpoint::establish(&cloud, &mut stream.clone(), &two).await.unwrap();
    let after = Target::new(|_| Delivery::Done);
    read_until(&cloud, &two, &stream, &after, || {
        checkpoint(&cloud) == Some(last.clone()) && !after.delivered().is_empty()
    })
    .await;
    assert!(after.delivered().concat().contains(&"new".to_owned()));
}
