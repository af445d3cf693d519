//! Tests of `subscriptions`: phases, lives, leaves and gaps.

use super::*;

fn subscriber(serial: u32) -> Subscriber {
    Subscriber { from: ShardId(0), serial: SubscribeSerial(serial) }
}

/// Sends what is wanted. Returns the names with their lives.
fn send(subscriptions: &mut Subscriptions) -> Vec<(Rc<str>, u64)> {
    let mut sent = Vec::new();
    while let Some(batch) = subscriptions.next_batch(2) {
        assert!(batch.channels.len() <= 2);
        sent.extend(batch.channels);
    }
    sent
}

fn active(channel: &str, serial: u32) -> Subscriptions {
    let mut subscriptions = Subscriptions::default();
    assert!(!subscriptions.subscribe(channel, 0, subscriber(serial)));
    let life = send(&mut subscriptions)[0].1;
    assert_eq!(subscriptions.acknowledge(channel, life), Some(subscriber(serial)));
    subscriptions
}

#[test]
fn messages_are_for_acknowledged_channels_only() {
    let mut subscriptions = Subscriptions::default();
    subscriptions.subscribe("a", 0, subscriber(1));
    assert_eq!(subscriptions.subscriber("a"), None);
    let sent = send(&mut subscriptions);
    assert_eq!((sent.len(), subscriptions.subscriber("a"), subscriptions.has_wanted()), (1, None, false));
    subscriptions.acknowledge("a", sent[0].1);
    assert_eq!(subscriptions.subscriber("a"), Some(Delivery::Now(subscriber(1))));
    assert!(subscriptions.subscribe("a", 0, subscriber(2)), "a new serial of an active channel");
    assert_eq!(subscriptions.subscriber("a"), Some(Delivery::Now(subscriber(2))));
    assert_eq!(subscriptions.subscriber("b"), None);
}

#[test]
fn acknowledgement_of_an_earlier_life_says_nothing() {
    let mut subscriptions = Subscriptions::default();
    let now = Instant::now();
    subscriptions.subscribe("a", 0, subscriber(1));
    let first = send(&mut subscriptions)[0].1;
    subscriptions.unsubscribe("a", now);
    assert_eq!(subscriptions.take_left(now + LEAVE_DELAY).len(), 1, "Redis is told");
    subscriptions.subscribe("a", 0, subscriber(2));
    let second = send(&mut subscriptions)[0].1;
    assert_eq!(subscriptions.acknowledge("a", first), None);
    assert_eq!(subscriptions.subscriber("a"), None);
    assert_eq!(subscriptions.acknowledge("a", second), Some(subscriber(2)));
}

#[test]
fn leave_is_carried_out_after_the_delay_unless_the_channel_comes_back() {
    let mut subscriptions = active("a", 1);
    let now = Instant::now();
    subscriptions.unsubscribe("a", now);
    assert_eq!(subscriptions.subscriber("a"), None, "its messages are dropped at once");
    assert!(subscriptions.take_left(now).is_empty());
    assert!(subscriptions.subscribe("a", 0, subscriber(2)));
    // Left again before the first delay is over: the second one counts.
    subscriptions.unsubscribe("a", now + LEAVE_DELAY / 2);
    assert!(subscriptions.take_left(now + LEAVE_DELAY).is_empty());
    assert_eq!(subscriptions.take_left(now + LEAVE_DELAY * 3 / 2).len(), 1);
    assert_eq!(subscriptions.len(), 0);
    subscriptions.unsubscribe("a", now);
    subscriptions.subscribe("b", 0, subscriber(3));
    subscriptions.unsubscribe("b", now);
    assert!(subscriptions.take_left(now + LEAVE_DELAY).is_empty(), "Redis does not know it yet");
    assert_eq!((subscriptions.len(), subscriptions.next_batch(1)), (0, None));
}

#[test]
fn lost_connection_makes_everything_wanted_and_forgets_leaves() {
    let mut subscriptions = active("a", 1);
    subscriptions.subscribe("b", 0, subscriber(2));
    subscriptions.subscribe("c", 0, subscriber(3));
    let sent = send(&mut subscriptions);
    subscriptions.unsubscribe("c", Instant::now());
    assert_eq!((sent.len(), subscriptions.lose_connection(|_| 0)), (2, 1));
    assert_eq!(subscriptions.subscriber("a"), None);
    let untold = subscriptions.untold();
    assert_eq!(untold, [("b".into(), subscriber(2))], "`a` was told before");
    assert!(subscriptions.untold().is_empty());
    let mut again = send(&mut subscriptions);
    again.sort();
    assert_eq!(again.iter().map(|(channel, _)| &**channel).collect::<Vec<_>>(), ["a", "b"]);
    for (channel, life) in again {
        assert!(subscriptions.acknowledge(&channel, life).is_some());
    }
}

#[test]
fn partitions_are_not_mixed_and_refused_batches_come_again() {
    let mut subscriptions = Subscriptions::default();
    for (channel, partition) in [("a", 1), ("b", 0), ("c", 1)] {
        subscriptions.subscribe(channel, partition, subscriber(1));
    }
    let names = |batch: &Batch| batch.channels.iter().map(|(channel, _)| channel.to_string()).collect::<Vec<_>>();
    let first = subscriptions.next_batch(10).expect("there are some");
    assert_eq!((first.partition, names(&first)), (0, vec!["b".to_owned()]));
    let second = subscriptions.next_batch(10).expect("there are some");
    assert_eq!((second.partition, names(&second)), (1, vec!["a".to_owned(), "c".to_owned()]));
    assert_eq!(subscriptions.next_batch(10), None);
    subscriptions.want_again(second);
    assert_eq!(subscriptions.next_batch(10).map(|batch| names(&batch)), Some(vec!["a".to_owned(), "c".to_owned()]));
}

#[test]
fn channel_with_a_gap_is_told_when_there_is_room() {
    let mut subscriptions = active("a", 1);
    subscriptions.set_lagging("a");
    subscriptions.set_lagging("a");
    assert_eq!(subscriptions.subscriber("a"), Some(Delivery::AfterGap(subscriber(1))));
    assert!(subscriptions.take_lagging(|_| false).is_empty() && subscriptions.has_lagging());
    assert_eq!(subscriptions.take_lagging(|_| true), [("a".into(), subscriber(1))]);
    assert_eq!((subscriptions.has_lagging(), subscriptions.subscriber("a").is_some()), (false, true));
    // A message came first, and told it.
    subscriptions.set_lagging("a");
    subscriptions.clear_lagging("a");
    assert!(subscriptions.take_lagging(|_| true).is_empty() && !subscriptions.has_lagging());
}

#[test]
fn ended_subscription_is_wanted_again() {
    let mut subscriptions = active("a", 1);
    assert!(subscriptions.end("a", 0) && !subscriptions.end("a", 0) && !subscriptions.end("b", 0));
    assert_eq!(subscriptions.subscriber("a"), None);
    assert_eq!(send(&mut subscriptions).len(), 1);
}
