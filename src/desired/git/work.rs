//! Work that blocks, on threads that stay.
//!
//! The C library gives each thread a heap, and a heap keeps the size of the largest piece of work that it ever served.
//! The threads of the runtime's pool take turns and come and go, so that one heap after the other grew. Here the
//! thread that was idle last is the next to work: what follows one another uses one heap, for as long as the process
//! lives.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use super::trouble::other;
use crate::model::SourceTrouble;

/// Calls what it is given when the work is done, so that the thread is idle before anybody hears of the result.
type Job = Box<dyn FnOnce(&dyn Fn()) + Send>;

/// Threads without work. There are as many threads as ever worked at a time: a few, and those that hang.
static IDLE: Mutex<Vec<Sender<Job>>> = Mutex::new(Vec::new());

/// Runs work that blocks on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceTrouble> + Send + 'static,
) -> Result<T, SourceTrouble> {
    let cut_short = || other("the work was cut short");
    // The pool's thread only waits, so that a clock that tests have stopped waits too.
    let waiting = tokio::task::spawn_blocking(move || {
        let (done, result) = channel();
        let job = Box::new(move |idle: &dyn Fn()| {
            let outcome = work();
            idle();
            // Nobody may wait any more.
            let _ = done.send(outcome);
        });
        give(job).map_err(|error| other(format!("there is no thread for it: {error}")))?;
        result.recv().map_err(|_| cut_short())?
    });
    waiting.await.map_err(|_| cut_short())?
}

/// Gives work to an idle thread, or to a new one.
fn give(job: Job) -> std::io::Result<()> {
    let idle = || IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let known = idle().pop();
    let worker = match known {
        Some(worker) => worker,
        None => {
            let (worker, jobs) = channel::<Job>();
            let own = worker.clone();
            // A thread that panics is not idle again, and who waits for its work hears that it was cut short.
            std::thread::Builder::new().name("git".into()).spawn(move || {
                for job in jobs {
                    job(&|| idle().push(own.clone()));
                }
            })?;
            worker
        }
    };
    worker.send(job).map_err(|_| std::io::Error::other("it ended"))
}
