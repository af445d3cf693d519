//! The task of a key set on a paused clock, with simulated fetches.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::task::{LocalSet, spawn_local};

use super::*;

/// The responses of the endpoint (the last one repeats), when they were fetched, and what was delivered to the shards.
#[derive(Clone, Default)]
struct World(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    script: VecDeque<Result<&'static str, &'static str>>,
    /// How long the endpoint takes.
    fetch_ms: u64,
    fetched_at: Vec<u64>,
    /// What became too old is delivered as `None`.
    delivered: Vec<Option<String>>,
}

impl World {
    /// Starts a task whose sets age in an hour and whose fetches are 3 s apart.
    fn start(&self, script: &[Result<&'static str, &'static str>]) -> KeySetFetcher {
        self.0.borrow_mut().script = script.iter().copied().collect();
        let world = self.clone();
        let deliver = move |keys: Option<String>| world.0.borrow_mut().delivered.push(keys);
        let parse = |bytes: &[u8]| match String::from_utf8(bytes.into()) {
            Ok(text) if text != "garbage" => Ok(text),
            _ => Err("no key set"),
        };
        let (fetcher, task) = FetchTask::new(KeySettings::default(), parse, deliver);
        let (world, began) = (self.clone(), Instant::now());
        spawn_local(task.run(move || {
            let mut inner = world.0.borrow_mut();
            inner.fetched_at.push(began.elapsed().as_secs());
            let said = if inner.script.len() > 1 { inner.script.pop_front() } else { inner.script.front().copied() };
            let fetch_ms = inner.fetch_ms;
            async move {
                wait_paused_ms(fetch_ms).await;
                said.expect("a script").map(|text| text.as_bytes().to_vec()).map_err(String::from)
            }
        }));
        fetcher
    }

    fn fetched_at(&self) -> Vec<u64> {
        self.0.borrow().fetched_at.clone()
    }

    fn delivered(&self) -> Vec<String> {
        self.0.borrow().delivered.iter().map(|keys| keys.clone().unwrap_or_else(|| "none".into())).collect()
    }
}

/// The clock is paused: it advances to the next timer when all tasks wait.
async fn wait_paused(seconds: u64) {
    wait_paused_ms(1000 * seconds).await;
}

async fn wait_paused_ms(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn key_set_is_fetched_at_the_start_and_when_it_is_old() {
    LocalSet::new()
        .run_until(async {
            let world = World::default();
            let _fetcher = world.start(&[Ok("one"), Ok("one"), Ok("two")]);
            wait_paused(3 * 3600 + 60).await;
            assert_eq!(world.fetched_at(), [0, 3600, 7200, 10800]);
            assert_eq!(world.delivered(), ["one", "two"], "only a changed document is delivered");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn requests_for_unknown_keys_share_one_fetch() {
    LocalSet::new()
        .run_until(async {
            let world = World::default();
            let fetcher = world.start(&[Ok("old"), Ok("new")]);
            wait_paused(1).await;
            let askers: Vec<_> = (0..1000)
                .map(|_| {
                    let fetcher = fetcher.clone();
                    spawn_local(async move { fetcher.refetch().await })
                })
                .collect();
            wait_paused(1).await;
            assert_eq!(world.fetched_at(), [0], "fetches are spaced");
            for asker in askers {
                assert_eq!(asker.await.unwrap(), Some(Fetched::AfterCall));
            }
            assert_eq!(world.fetched_at(), [0, 3]);
            assert_eq!(world.delivered(), ["old", "new"], "the keys are delivered before the requests are answered");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn request_during_a_fetch_learns_that_the_set_may_be_older_than_its_token() {
    LocalSet::new()
        .run_until(async {
            let world = World::default();
            world.0.borrow_mut().fetch_ms = 500;
            let fetcher = world.start(&[Ok("old"), Ok("new")]);
            wait_paused_ms(100).await;
            assert_eq!(fetcher.refetch().await, Some(Fetched::BeforeCall));
            assert_eq!(world.delivered(), ["old"]);
            assert_eq!(fetcher.refetch().await, Some(Fetched::AfterCall));
            assert_eq!((world.delivered(), world.fetched_at()), (vec!["old".into(), "new".into()], vec![0, 3]));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn keys_end_when_the_endpoint_fails_for_a_day_and_return_with_it() {
    LocalSet::new()
        .run_until(async {
            let world = World::default();
            let fetcher = world.start(&[Ok("one"), Ok("one"), Err("refused")]);
            wait_paused(3600 + 24 * 3600 - 1).await;
            assert_eq!(world.delivered(), ["one"], "a day has not passed since the last fetch that succeeded");
            wait_paused(10).await;
            assert_eq!((world.delivered(), fetcher.snapshot().present), (vec!["one".into(), "none".into()], false));
            wait_paused(48 * 3600).await;
            assert_eq!(world.delivered(), ["one", "none"], "it is said once");
            world.0.borrow_mut().script = [Ok("one")].into();
            assert_eq!(fetcher.refetch().await, Some(Fetched::AfterCall));
            assert_eq!(world.delivered(), ["one", "none", "one"], "the same document counts again");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn keys_of_the_task_before_end_too() {
    LocalSet::new()
        .run_until(async {
            let world = World::default();
            let _fetcher = world.start(&[Err("refused")]);
            wait_paused(24 * 3600 + 10).await;
            assert_eq!(world.delivered(), ["none"]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn requests_past_the_limit_fail_at_once() {
    LocalSet::new()
        .run_until(async {
            let world = World::default();
            let fetcher = world.start(&[Ok("one")]);
            wait_paused(1).await;
            let mut waiting = Vec::new();
            loop {
                let (answer, answered) = oneshot::channel();
                match fetcher.requests.try_send(answer) {
                    Ok(()) => waiting.push(answered),
                    Err(_) => break,
                }
            }
            assert_eq!(waiting.len(), KEY_WAITERS_MAX);
            let now = Instant::now();
            assert_eq!(fetcher.refetch().await, None);
            assert_eq!(Instant::now(), now);
            for answered in waiting {
                assert_eq!(answered.await, Ok(Some(Fetched::AfterCall)));
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn fetch_that_fails_keeps_the_keys_and_is_retried_with_growing_waits() {
    LocalSet::new()
        .run_until(async {
            let world = World::default();
            let fetcher = world.start(&[Ok("one"), Ok("garbage"), Err("refused")]);
            wait_paused(10).await;
            assert_eq!(fetcher.refetch().await, None);
            wait_paused(200).await;
            assert_eq!(world.fetched_at(), [0, 10, 13, 19, 31, 55, 103, 163]);
            assert_eq!(world.delivered(), ["one"]);
            world.0.borrow_mut().script = [Ok("two")].into();
            assert_eq!(fetcher.refetch().await, Some(Fetched::AfterCall));
            assert_eq!(world.delivered(), ["one", "two"]);
            let name = "jwks".into();
            assert_eq!(fetcher.snapshot(), KeySetSnapshot { name, fetches: 9, failures: 7, present: true });
        })
        .await;
}
