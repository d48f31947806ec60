//! Until when our addresses can sign: numbers for monitoring, and warnings while the milter runs.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agent::settings::{Ending, Warning};
use milter::{gauge, gauges};
use tokio::time::sleep;

/// Adds to the page for monitoring when the next address ends, and how many do soon. Nobody's address.
pub(crate) fn write(page: &mut String, endings: &[Ending], now: SystemTime) -> fmt::Result {
    let left: Vec<Duration> = endings.iter().filter_map(|ending| ending.left(now)).collect();
    if let Some(next) = left.iter().min() {
        let help = "Until the next address of ours can no longer sign.";
        gauge(page, "next_expiry_seconds", help, next.as_secs())?;
    }
    let ended = endings.len() - left.len();
    gauge(page, "addresses_expired", "Addresses of ours without a certificate that can sign now.", ended)?;
    let within = Ending::MARKS.map(|days| {
        let time = Duration::from_hours(24 * days);
        (days, left.iter().filter(|left| **left < time).count())
    });
    let help = "Addresses of ours that can still sign, but for less than so many days.";
    gauges(page, "addresses_expiring", help, "days", within)
}

/// Looks for ever, once in a while, whether something is to be told of the present addresses. What the configuration said
/// when it was read has been told.
pub(crate) async fn watch(
    endings: impl Fn() -> Arc<[Ending]>,
    every: Duration,
    clock: impl Fn() -> SystemTime,
    tell: impl Fn(Warning),
) {
    let mut before = clock();
    loop {
        sleep(every).await;
        let now = clock();
        for warning in endings().iter().filter_map(|ending| ending.warning(before, now)) {
            tell(warning);
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;
    use std::sync::Mutex;

    use agent::Settings;
    use smime::testing::fixtures::certificate;
    use tokio::runtime::Builder;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn endings(names: &[&str]) -> Arc<[Ending]> {
        let folder = tempfile::tempdir().unwrap();
        let mut text = "[pool]\nsocket = \"keyd.sock\"\n".to_owned();
        for name in names {
            fs::write(folder.path().join(name), certificate(name).der()).unwrap();
            let _ = write!(text, "[[identity]]\ncertificate = \"{name}\"\n");
        }
        let settings = Settings::parse(&text, &folder.path().join("hsmime.toml")).unwrap();
        settings.endings().into()
    }

    #[test]
    fn monitoring_is_told_how_many_addresses_end_soon() {
        let (endings, end) = (endings(&["alice"]), certificate("alice").not_after());
        for (now, lines) in [
            (end - DAY * 40, [("30", 0), ("14", 0), ("3", 0)]),
            (end - DAY * 20, [("30", 1), ("14", 0), ("3", 0)]),
            (end - DAY * 10, [("30", 1), ("14", 1), ("3", 0)]),
            (end - DAY * 2, [("30", 1), ("14", 1), ("3", 1)]),
        ] {
            let mut page = String::new();
            write(&mut page, &endings, now).unwrap();
            let next = end.duration_since(now).unwrap().as_secs();
            let has = |line: &str| assert!(page.lines().any(|found| found == line), "{line}: {page}");
            has(&format!("hsmime_milter_next_expiry_seconds {next}"));
            has("hsmime_milter_addresses_expired 0");
            for (days, count) in lines {
                has(&format!("hsmime_milter_addresses_expiring{{days=\"{days}\"}} {count}"));
            }
        }
        let mut page = String::new();
        write(&mut page, &endings, end + DAY * 20_000).unwrap();
        assert!(
            page.contains("hsmime_milter_addresses_expired 1\n") && !page.contains("next_expiry"),
            "{page}"
        );
    }

    #[test]
    fn an_address_that_ends_while_the_milter_runs_is_told_of_each_time_once() {
        let (endings, end) = (endings(&["alice", "bob"]), certificate("alice").not_after());
        let clock = Mutex::new(end - DAY * 35);
        let told = Mutex::new(Vec::new());
        // Each look is a day later.
        let tomorrow = || {
            let mut now = clock.lock().unwrap();
            *now += DAY;
            *now
        };
        let tell = |warning: Warning| told.lock().unwrap().push(warning.to_string());
        let watching = watch(|| Arc::clone(&endings), Duration::from_millis(1), tomorrow, tell);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                () = watching => {}
                () = async { while *clock.lock().unwrap() < end + DAY * 5 { sleep(Duration::from_millis(1)).await } } => {}
            }
        });
        let told = told.into_inner().unwrap();
        let of_alice: Vec<&String> =
            told.iter().filter(|text| text.contains("for alice@example.org")).collect();
        assert_eq!(of_alice.len(), 6, "{told:?}");
        assert!(
            of_alice[0].ends_with("expires in 29 days") && of_alice[5].ends_with("is expired"),
            "{told:?}"
        );
    }
}
