//! The keeper of a key set on a paused clock, with fetches played by the test.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::ready;
use std::rc::Rc;

use tokio::task::{LocalSet, spawn_local};

use super::*;

/// What the endpoint says next (the last thing for ever), when it was asked, and what the shards were told.
#[derive(Clone, Default)]
struct World(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    script: VecDeque<Result<&'static str, &'static str>>,
    asked_at: Vec<u64>,
    told: Vec<String>,
}

impl World {
    /// Starts a keeper whose sets age in an hour and whose fetches keep 3 s.
    fn start(&self, script: &[Result<&'static str, &'static str>]) -> KeyDesk {
        self.0.borrow_mut().script = script.iter().copied().collect();
        let world = self.clone();
        let deliver = move |keys: String| world.0.borrow_mut().told.push(keys);
        let parse = |bytes: &[u8]| match String::from_utf8(bytes.into()) {
            Ok(text) if text != "garbage" => Ok(text),
            _ => Err("no key set"),
        };
        let (desk, keeper) = Keeper::new(KeySettings::default(), parse, deliver);
        let (world, began) = (self.clone(), Instant::now());
        spawn_local(keeper.run(move || {
            let mut inner = world.0.borrow_mut();
            inner.asked_at.push(began.elapsed().as_secs());
            let said = if inner.script.len() > 1 { inner.script.pop_front() } else { inner.script.front().copied() };
            ready(said.expect("a script").map(|text| text.as_bytes().to_vec()).map_err(String::from))
        }));
        desk
    }

    fn asked_at(&self) -> Vec<u64> {
        self.0.borrow().asked_at.clone()
    }

    fn told(&self) -> Vec<String> {
        self.0.borrow().told.clone()
    }
}

/// The clock is paused: it springs to the next timer when nothing else is to do.
async fn wait_paused(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_set_is_fetched_at_the_start_and_again_when_it_is_old() {
    LocalSet::new()
        .run_until(async {
            let world = World::default();
            let _desk = world.start(&[Ok("one"), Ok("one"), Ok("two")]);
            wait_paused(3 * 3600 + 60).await;
            assert_eq!(world.asked_at(), [0, 3600, 7200, 10800]);
            assert_eq!(world.told(), ["one", "two"], "only what changed is told");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_is_answered_by_one_fetch() {
    LocalSet::new()
        .run_until(async {
            let world = World::default();
            let desk = world.start(&[Ok("old"), Ok("new")]);
            wait_paused(1).await;
            let askers: Vec<_> = (0..1000)
                .map(|_| {
                    let desk = desk.clone();
                    spawn_local(async move { desk.asked_again().await })
                })
                .collect();
            wait_paused(1).await;
            assert_eq!(world.asked_at(), [0], "fetches keep their distance");
            for asker in askers {
                assert!(asker.await.unwrap());
            }
            assert_eq!(world.asked_at(), [0, 3]);
            assert_eq!(world.told(), ["old", "new"], "the shards know before the askers");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_when_too_many_do_is_refused_at_once() {
    LocalSet::new()
        .run_until(async {
            let world = World::default();
            let desk = world.start(&[Ok("one")]);
            wait_paused(1).await;
            let mut waiting = Vec::new();
            loop {
                let (answer, answered) = oneshot::channel();
                match desk.asks.try_send(answer) {
                    Ok(()) => waiting.push(answered),
                    Err(_) => break,
                }
            }
            assert_eq!(waiting.len(), KEY_WAITERS_MAX);
            let now = Instant::now();
            assert!(!desk.asked_again().await);
            assert_eq!(Instant::now(), now);
            for answered in waiting {
                assert_eq!(answered.await, Ok(true));
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_fails_keeps_the_keys_and_is_repeated_ever_more_rarely() {
    LocalSet::new()
        .run_until(async {
            let world = World::default();
            let desk = world.start(&[Ok("one"), Ok("garbage"), Err("refused")]);
            wait_paused(10).await;
            assert!(!desk.asked_again().await);
            wait_paused(200).await;
            assert_eq!(world.asked_at(), [0, 10, 13, 19, 31, 55, 103, 163]);
            assert_eq!(world.told(), ["one"]);
            world.0.borrow_mut().script = [Ok("two")].into();
            assert!(desk.asked_again().await);
            assert_eq!(world.told(), ["one", "two"]);
            let name = "jwks".into();
            assert_eq!(desk.snapshot(), KeySetSnapshot { name, fetches: 9, failures: 7, present: true });
        })
        .await;
}
