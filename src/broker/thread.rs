//! The threads of brokers: each has a runtime of its own, so that no shard and no API call waits for it.

use std::io;
use std::thread::JoinHandle;

/// Starts a thread that runs `work` to its end. `work` is made in the thread, so it may own what no other thread may touch.
pub(crate) fn spawn<F>(name: String, work: impl FnOnce() -> F + Send + 'static) -> io::Result<JoinHandle<()>>
where
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name).spawn(move || {
        tokio::task::LocalSet::new().block_on(&runtime, work());
    })
}

/// Waits for threads to end. `panicked`: what the log says of one that did not end in order.
pub(crate) fn join(threads: Vec<JoinHandle<()>>, panicked: &str) {
    for thread in threads {
        if thread.join().is_err() {
            log::error!("{panicked}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_ends_with_its_work() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let work = move || async move {
            let local = std::rc::Rc::new(7);
            let number = tokio::task::spawn_local(async move { *local }).await.expect("it does not panic");
            sender.send(number).expect("the test waits for it");
        };
        spawn("broker test".into(), work).expect("the machine has threads").join().expect("it does not panic");
        assert_eq!(receiver.recv(), Ok(7));
    }
}
