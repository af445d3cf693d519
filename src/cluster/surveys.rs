//! The surveys of this server that wait for answers, by their ids.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::mpsc;

use super::nodes::NODES_MAX;
use super::proto::SurveyResponse;

/// Surveys that may wait at a time.
const SURVEYS_MAX: usize = 16;

/// What a survey waits for.
#[derive(PartialEq, Debug)]
pub(crate) enum Heard {
    /// The broker has delivered the question: to this server, and to all others that hear it.
    Question,
    /// An answer, with the uid of the server that sent it.
    Answer(String, SurveyResponse),
}

#[derive(Default)]
pub(crate) struct Surveys(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    last_id: u64,
    by_id: HashMap<u64, mpsc::Sender<Heard>>,
}

impl Surveys {
    /// The id of a new survey, and where its answers arrive. `None`: too many wait.
    pub(crate) fn begin(&self) -> Option<(u64, mpsc::Receiver<Heard>)> {
        let mut waiting = self.lock();
        if waiting.by_id.len() >= SURVEYS_MAX {
            return None;
        }
        let (sender, receiver) = mpsc::channel(NODES_MAX + 1);
        waiting.last_id += 1;
        let id = waiting.last_id;
        waiting.by_id.insert(id, sender);
        Some((id, receiver))
    }

    pub(crate) fn delivered(&self, id: u64) {
        self.hear(id, Heard::Question);
    }

    /// An answer to a survey that has ended is dropped.
    pub(crate) fn answer(&self, from: String, response: SurveyResponse) {
        self.hear(response.id, Heard::Answer(from, response));
    }

    fn hear(&self, id: u64, heard: Heard) {
        if let Some(survey) = self.lock().by_id.get(&id) {
            // Full only if a server answers more than once.
            let _ = survey.try_send(heard);
        }
    }

    pub(crate) fn end(&self, id: u64) {
        self.lock().by_id.remove(&id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().expect("never poisoned: no code panics while holding the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_reach_the_survey_with_their_id_while_it_waits() {
        let surveys = Surveys::default();
        let (id, mut answers) = surveys.begin().expect("none waits");
        let (other, mut none) = surveys.begin().expect("one waits");
        assert_ne!(id, other);
        let response = SurveyResponse { id, code: 3, data: Vec::new() };
        surveys.delivered(id);
        surveys.answer("a".into(), response.clone());
        assert_eq!(answers.try_recv().ok(), Some(Heard::Question));
        assert_eq!(answers.try_recv().ok(), Some(Heard::Answer("a".into(), response.clone())));
        surveys.end(id);
        surveys.answer("a".into(), response);
        assert!(answers.try_recv().is_err() && none.try_recv().is_err());
    }

    #[test]
    fn surveys_that_wait_are_bounded() {
        let surveys = Surveys::default();
        let open: Vec<_> = std::iter::from_fn(|| surveys.begin()).collect();
        assert_eq!(open.len(), SURVEYS_MAX);
        surveys.end(open[3].0);
        assert!(surveys.begin().is_some());
    }
}
