//! BouncyCastle's CMS (Java), behind a small server: `tests/java/BouncyCastle.java`.
//!
//! One JVM answers all questions, because starting one takes longer than hundreds of answers.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, Result, anyhow};

use crate::command;

/// A JVM that is stopped when this is dropped.
#[derive(Debug)]
pub struct BouncyCastle {
    child: Child,
    pipes: Mutex<Pipes>,
}

#[derive(Debug)]
struct Pipes {
    /// Closed when the server shall end.
    questions: Option<ChildStdin>,
    answers: ChildStdout,
}

impl BouncyCastle {
    /// Starts the server; it is compiled on the way.
    pub fn start() -> Result<Self> {
        let jars = ["bcprov", "bcutil", "bcpkix"].map(|jar| format!("/usr/share/java/{jar}.jar"));
        for jar in &jars {
            anyhow::ensure!(Path::new(jar).exists(), "{jar} is missing; install the package libbcmail-java");
        }
        let mut java = Command::new("java");
        // The quick compiler is enough, and one thread less is welcome on a small machine.
        java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &jars.join(":")]);
        java.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("java/BouncyCastle.java"));
        java.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = java.spawn().map_err(|error| command::not_started(PACKAGE, &java, &error))?;
        let answers = child.stdout.take().context("no standard output")?;
        let pipes = Mutex::new(Pipes { questions: child.stdin.take(), answers });
        let server = Self { child, pipes };
        server.ask(&[b"version"]).context("BouncyCastle does not start: is there a JDK, not only a JRE?")?;
        Ok(server)
    }

    /// Asks: a verb and its arguments, as they are named in the Java source. What failed there is an error with the
    /// exception's words.
    pub fn ask(&self, fields: &[&[u8]]) -> Result<Vec<u8>> {
        let mut question = u32::try_from(fields.len())?.to_be_bytes().to_vec();
        for field in fields {
            question.extend(u32::try_from(field.len())?.to_be_bytes());
            question.extend_from_slice(field);
        }
        let mut pipes = self.pipes.lock().map_err(|_| anyhow!("an earlier question panicked"))?;
        let questions = pipes.questions.as_mut().context("the server was stopped")?;
        questions.write_all(&question)?;
        questions.flush()?;
        let mut head = [0; 5];
        pipes.answers.read_exact(&mut head).context("no answer from Java")?;
        let [failed, len @ ..] = head;
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(len))?];
        pipes.answers.read_exact(&mut answer)?;
        if failed == 0 { Ok(answer) } else { Err(anyhow!(String::from_utf8_lossy(&answer).into_owned())) }
    }
}

impl Drop for BouncyCastle {
    fn drop(&mut self) {
        if let Ok(mut pipes) = self.pipes.lock() {
            pipes.questions = None;
        }
        // It ends at the end of its input; what it ends with is of no interest.
        let _ = self.child.wait();
    }
}

const PACKAGE: &str = "openjdk-17-jdk-headless";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_answers_many_questions_and_says_what_is_wrong_with_one() {
        let server = BouncyCastle::start().unwrap();
        let compressed = server.ask(&[b"compress", b"content", b"der"]).unwrap();
        let error = server.ask(&[b"decompress", b"content"]).unwrap_err();
        assert!(error.to_string().contains("CMSException"), "{error}");
        assert!(server.ask(&[b"sing"]).unwrap_err().to_string().contains("no verb sing"));
        assert_eq!(server.ask(&[b"decompress", &compressed]).unwrap(), b"content");
    }
}
