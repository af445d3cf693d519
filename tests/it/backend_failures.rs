//! Failing backends: absent, slow, overloaded or misbehaving. Each call ends within its timeout with `Failed`, is
//! retried only if that is safe, and an open circuit makes no calls.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::backend::{
    PATIENCE, Server, backend, bare, call, connecting, counts, failures, publishing, rpc, subscribing, until,
    unused_address,
};
use corecast::auth::grant::{Publish, SubscribeGrant};
use corecast::backend::call::{Answer, Call, Caller, Question};
use corecast::backend::{Backoff, BreakerSettings, ProxySettings, REPLY_BYTES_MAX};
use hyper::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

const SHORT: Duration = Duration::from_millis(200);

fn short_timeout() -> ProxySettings {
    let quick = Duration::from_millis(1);
    ProxySettings { retry_backoff: Backoff { min: quick, max: quick, jitter: 1.0 }, ..ProxySettings::default() }
}

fn breaker(failures_to_open: u32, open_for: Duration) -> ProxySettings {
    let breaker = BreakerSettings { failures_to_open, open_for };
    ProxySettings { retries_max: 0, breaker, ..short_timeout() }
}

/// The call of another user.
fn of_user(call: Call, user: u32) -> Call {
    Call { caller: Caller { user: user.to_string(), ..call.caller.clone() }, ..call }
}

fn granted() -> Answer {
    Answer::Subscribe(SubscribeGrant::default())
}

/// Sends this response to any request and closes the connection.
fn responding(body: &'static [u8]) -> impl Fn(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static {
    move |mut stream| {
        Box::pin(async move {
            let _ = stream.write_all(body).await;
            let _ = stream.shutdown().await;
        })
    }
}

#[tokio::test]
async fn unreachable_backend_is_retried_for_every_call() {
    let backend = backend(&unused_address().await, short_timeout());
    for (index, call) in [connecting(), publishing(), rpc()].into_iter().enumerate() {
        assert_eq!(backend.ask(call).await, Answer::Failed);
        assert_eq!(counts(&backend).retries, 2 * (index as u64 + 1), "no request was sent, so every retry is safe");
    }
    assert_eq!(failures(&backend), [("unreachable", 3)]);
}

#[tokio::test]
async fn connection_closed_before_the_reply_is_retried_only_if_safe() {
    let (url, connections) = bare(|stream| async move { drop(stream) }).await;
    let backend = backend(&url, short_timeout());
    assert_eq!(backend.ask(subscribing()).await, Answer::Failed);
    assert_eq!(connections.load(Ordering::Relaxed), 3);
    assert_eq!(backend.ask(publishing()).await, Answer::Failed);
    assert_eq!(backend.ask(rpc()).await, Answer::Failed);
    assert_eq!(connections.load(Ordering::Relaxed), 5, "the backend may have processed these");
    assert_eq!(failures(&backend), [("broken", 3)]);
}

#[tokio::test]
async fn backend_that_recovers_within_the_timeout_succeeds() {
    let server = Server::start(|_, before| async move {
        let rejections = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY];
        (*rejections.get(before).unwrap_or(&StatusCode::OK), "{}")
    })
    .await;
    let backend = backend(&server.url, short_timeout());
    assert_eq!(backend.ask(subscribing()).await, granted());
    assert_eq!((server.seen().len(), counts(&backend).retries, failures(&backend)), (3, 2, vec![]));
}

#[tokio::test]
async fn status_is_retried_only_if_the_request_was_not_processed() {
    let server = Server::start(|seen, _| async move {
        let method = seen.json()["channel"].as_str().unwrap_or("503").parse::<u16>().unwrap();
        (StatusCode::from_u16(method).unwrap(), "{}")
    })
    .await;
    let backend = backend(&server.url, short_timeout());
    for (status, tries) in [(500, 1), (404, 1), (201, 1), (204, 1), (503, 3), (504, 3)] {
        let subscribe = Question::Subscribe { channel: status.to_string(), token: String::new(), data: vec![] };
        assert_eq!(backend.ask(call(subscribe)).await, Answer::Failed);
        assert_eq!(server.seen().len(), tries, "{status}");
    }
    let publish = Question::Publish { channel: "503".into(), data: vec![] };
    assert_eq!(backend.ask(call(publish)).await, Answer::Failed);
    assert_eq!((server.seen().len(), failures(&backend)), (1, vec![("status", 7)]));
}

#[tokio::test]
async fn backend_that_never_replies_costs_its_timeout() {
    let (url, _) = bare(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let backend = backend(&url, ProxySettings { timeout: SHORT, ..short_timeout() });
    let began = Instant::now();
    assert_eq!(backend.ask(subscribing()).await, Answer::Failed);
    assert!(began.elapsed() >= SHORT && began.elapsed() < PATIENCE);
    assert_eq!((failures(&backend), counts(&backend).retries), (vec![("timeout", 1)], 0));
}

#[tokio::test]
async fn slow_reply_does_not_extend_the_timeout() {
    let (url, _) = bare(|mut stream| async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
        while sent.is_ok() {
            ticks.tick().await;
            sent = stream.write_all(b" ").await;
        }
    })
    .await;
    let backend = backend(&url, ProxySettings { timeout: SHORT, ..short_timeout() });
    assert_eq!(backend.ask(subscribing()).await, Answer::Failed);
    assert_eq!(failures(&backend), [("timeout", 1)]);
}

#[tokio::test]
async fn malformed_replies_are_errors_and_keep_the_circuit_closed() {
    for (body, reason) in [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>".as_slice(), "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{", "too_long"),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", "status"),
    ] {
        let (url, _) = bare(responding(body)).await;
        let backend = backend(&url, breaker(1, PATIENCE));
        assert_eq!(backend.ask(rpc()).await, Answer::Failed);
        assert_eq!(failures(&backend), [(reason, 1)], "{}", body.escape_ascii());
        assert!(
            !counts(&backend).open,
            "what one client's payload provokes does not open the circuit for other clients"
        );
    }
}

#[tokio::test]
async fn backend_that_does_not_speak_http_is_a_connection_failure() {
    for body in [
        b"220 mail ready\r\n".as_slice(),
        b"\x00\xff\x00\xff",
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let (url, _) = bare(responding(body)).await;
        let backend = backend(&url, breaker(1, PATIENCE));
        assert_eq!(backend.ask(rpc()).await, Answer::Failed);
        assert_eq!((failures(&backend), counts(&backend).open), (vec![("broken", 1)], true), "{}", body.escape_ascii());
    }
}

#[tokio::test]
async fn endless_reply_is_cut_at_its_bound() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let (url, _) = bare(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            while sent.is_ok() {
                sent = stream.write_all(&chunk).await;
                count.fetch_add(0x10000, Ordering::Relaxed);
            }
        }
    })
    .await;
    let backend = backend(&url, short_timeout());
    assert_eq!(backend.ask(subscribing()).await, Answer::Failed);
    assert_eq!(failures(&backend), [("too_long", 1)]);
    assert!(sent.load(Ordering::Relaxed) < 32 * REPLY_BYTES_MAX, "no more than the kernel's buffers");
}

#[tokio::test]
async fn concurrent_and_queued_calls_are_bounded() {
    let permits = Arc::new(Semaphore::new(0));
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = (Arc::clone(&permits), Arc::clone(&at_once), Arc::clone(&most));
    let server = Server::start(move |_, _| {
        let (permits, at_once, most) = seen.clone();
        async move {
            most.fetch_max(at_once.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            permits.acquire().await.unwrap().forget();
            at_once.fetch_sub(1, Ordering::Relaxed);
            "{}"
        }
    })
    .await;
    let backend = Arc::new(backend(&server.url, ProxySettings { concurrency_max: 2, queue_max: 3, ..short_timeout() }));
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let backend = Arc::clone(&backend);
            tokio::spawn(async move { backend.ask(publishing()).await })
        })
        .collect();
    until("two are there", || at_once.load(Ordering::Relaxed) == 2).await;
    assert_eq!(counts(&backend).in_flight, 5);
    assert_eq!(backend.ask(publishing()).await, Answer::Failed, "at once: the circuit is open");
    assert_eq!(failures(&backend), [("busy", 1)]);
    permits.add_permits(5);
    for call in calls {
        assert_eq!(call.await.unwrap(), Answer::Publish(Publish::default()));
    }
    assert_eq!((most.load(Ordering::Relaxed), counts(&backend).in_flight), (2, 0));
}

#[tokio::test]
async fn queue_time_counts_towards_the_timeout_and_not_as_a_backend_failure() {
    let (url, _) = bare(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let settings = ProxySettings { timeout: SHORT, concurrency_max: 1, ..breaker(2, PATIENCE) };
    let backend = backend(&url, settings);
    assert_eq!(tokio::join!(backend.ask(rpc()), backend.ask(rpc())), (Answer::Failed, Answer::Failed));
    assert_eq!(failures(&backend), [("timeout", 2)]);
    assert!(!counts(&backend).open, "one call timed out in the queue");
}

#[tokio::test]
async fn open_circuit_closes_after_a_successful_probe() {
    let alive = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&alive);
    let server = Server::start(move |_, _| {
        let alive = flag.load(Ordering::Relaxed);
        async move { (if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, "{}") }
    })
    .await;
    let backend = backend(&server.url, breaker(3, Duration::from_millis(50)));
    for user in 0..3 {
        assert_eq!(backend.ask(of_user(subscribing(), user)).await, Answer::Failed);
    }
    assert_eq!((counts(&backend).open, counts(&backend).opened), (true, 1));
    alive.store(true, Ordering::Relaxed);
    let mut answer = backend.ask(subscribing()).await;
    let deadline = Instant::now() + PATIENCE;
    while answer == Answer::Failed && Instant::now() < deadline {
        tokio::task::yield_now().await;
        answer = backend.ask(subscribing()).await;
    }
    assert_eq!((answer, counts(&backend).open), (granted(), false));
    assert_eq!(server.seen().len(), 4, "three failures and one probe");
}

#[tokio::test]
async fn open_circuit_makes_no_calls() {
    let server = Server::start(|_, _| async { StatusCode::SERVICE_UNAVAILABLE }).await;
    let backend = backend(&server.url, breaker(2, PATIENCE));
    for user in 0..1000 {
        assert_eq!(backend.ask(of_user(rpc(), user)).await, Answer::Failed);
    }
    assert_eq!(server.seen().len(), 2);
    assert_eq!(failures(&backend), [("circuit_open", 998), ("status", 2)]);
    assert_eq!(counts(&backend).durations.iter().sum::<u64>(), 2, "only attempted calls took time");
}

#[tokio::test]
async fn dropped_call_frees_its_slot() {
    let (url, connections) = bare(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let backend = backend(&url, ProxySettings { concurrency_max: 1, queue_max: 0, ..short_timeout() });
    for round in 1..=3 {
        tokio::select! {
            _ = backend.ask(rpc()) => unreachable!("it never answers"),
            () = until("asked", || connections.load(Ordering::Relaxed) == round) => {}
        }
        assert_eq!(counts(&backend).in_flight, 0);
    }
}

/// A backend that never answers an rpc with the data "slow", answers one with "503" with that status, and all other calls
/// at once.
async fn provoked() -> Server {
    Server::start(|seen, _| async move {
        match seen.json()["data"].as_str() {
            Some("slow") => std::future::pending().await,
            Some("503") => (StatusCode::SERVICE_UNAVAILABLE, ""),
            _ => (StatusCode::OK, r#"{"result":{"user":"9","data":1}}"#),
        }
    })
    .await
}

fn rpc_with(data: &str) -> Call {
    call(Question::Rpc { method: "m".into(), data: serde_json::to_vec(data).unwrap() })
}

#[tokio::test]
async fn slow_rpcs_of_clients_do_not_fail_the_calls_of_others() {
    let server = provoked().await;
    let backend = Arc::new(backend(&server.url, ProxySettings { timeout: SHORT, ..breaker(10, PATIENCE) }));
    let ask = |call: Call| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move { backend.ask(call).await })
    };
    // 24 slow calls, of one user and of twelve, end together while no other call is made.
    for users in [1, 12] {
        let slow: Vec<_> = (0..12).map(|n| ask(of_user(rpc_with("slow"), 1000 + n % users))).collect();
        for call in slow {
            assert_eq!(call.await.unwrap(), Answer::Failed);
        }
    }
    // One user's calls that the backend rejects with 503.
    for _ in 0..50 {
        assert_eq!(backend.ask(of_user(rpc_with("503"), 7)).await, Answer::Failed);
    }
    // Slow calls among 340 honest ones.
    let slow: Vec<_> = (0..12).map(|n| ask(of_user(rpc_with("slow"), n))).collect();
    for n in 0..85 {
        assert_eq!(backend.ask(of_user(rpc_with("fine"), n)).await, Answer::Rpc { data: b"1".into() });
        assert!(matches!(backend.ask(of_user(subscribing(), n)).await, Answer::Subscribe(_)));
        assert!(matches!(backend.ask(connecting()).await, Answer::Connect(_)));
        assert!(matches!(backend.ask(of_user(call(Question::Refresh), n)).await, Answer::Refresh(_)));
    }
    for call in slow {
        assert_eq!(call.await.unwrap(), Answer::Failed);
    }
    assert_eq!((counts(&backend).opened, failures(&backend)), (0, vec![("timeout", 36), ("status", 50)]));
}

#[tokio::test]
async fn open_circuit_of_one_method_leaves_the_others_closed() {
    let server = provoked().await;
    let backend = backend(&server.url, breaker(3, PATIENCE));
    for user in 0..3 {
        assert_eq!(backend.ask(of_user(rpc_with("503"), user)).await, Answer::Failed);
    }
    assert_eq!((counts(&backend).open, counts(&backend).opened), (true, 1), "several users are evidence");
    server.seen();
    assert_eq!(backend.ask(rpc_with("fine")).await, Answer::Failed);
    assert_eq!(server.seen().len(), 0);
    assert!(matches!(backend.ask(subscribing()).await, Answer::Subscribe(_)));
    assert!(matches!(backend.ask(connecting()).await, Answer::Connect(_)));
}

#[tokio::test]
async fn slow_calls_of_one_method_take_no_place_of_another() {
    let server = provoked().await;
    let settings = ProxySettings { concurrency_max: 1, queue_max: 0, ..breaker(10, PATIENCE) };
    let backend = Arc::new(backend(&server.url, settings));
    let slow = Arc::clone(&backend);
    let slow = tokio::spawn(async move { slow.ask(rpc_with("slow")).await });
    until("the slow call is there", || counts(&backend).in_flight == 1).await;
    assert_eq!(backend.ask(rpc_with("fine")).await, Answer::Failed, "no place for another rpc");
    assert!(matches!(backend.ask(subscribing()).await, Answer::Subscribe(_)));
    slow.abort();
}

#[tokio::test]
async fn slow_calls_of_one_user_leave_places_to_others() {
    let server = provoked().await;
    let settings = ProxySettings { concurrency_max: 4, user_concurrency_max: 2, queue_max: 9, ..breaker(10, PATIENCE) };
    let backend = Arc::new(backend(&server.url, settings));
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let backend = Arc::clone(&backend);
            tokio::spawn(async move { backend.ask(of_user(rpc_with("slow"), 1)).await })
        })
        .collect();
    until("the slow calls are there", || counts(&backend).in_flight == 8).await;
    assert_eq!(backend.ask(of_user(rpc_with("fine"), 1)).await, Answer::Failed, "six of this user wait already");
    assert_eq!(failures(&backend), [("busy", 1)]);
    for user in 2..9 {
        let answer = backend.ask(of_user(rpc_with("fine"), user)).await;
        assert!(matches!(answer, Answer::Rpc { .. }), "user {user}: {answer:?}");
    }
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn outages_open_the_circuit() {
    // It cannot be reached: each call of one user counts.
    let gone = backend(&unused_address().await, breaker(5, PATIENCE));
    for _ in 0..20 {
        assert_eq!(gone.ask(rpc()).await, Answer::Failed);
    }
    assert_eq!(failures(&gone), [("circuit_open", 15), ("unreachable", 5)]);
    // It never answers: the timeouts of several connecting clients count.
    let (url, _) = bare(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let hung = Arc::new(backend(&url, ProxySettings { timeout: SHORT, ..breaker(5, PATIENCE) }));
    let asked: Vec<_> = (0..5)
        .map(|user| {
            let hung = Arc::clone(&hung);
            tokio::spawn(async move { hung.ask(of_user(connecting(), user)).await })
        })
        .collect();
    for call in asked {
        assert_eq!(call.await.unwrap(), Answer::Failed);
    }
    assert_eq!((counts(&hung).open, failures(&hung)), (true, vec![("timeout", 5)]));
}
