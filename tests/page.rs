//! The status page in a real browser: it follows what happens, fits a phone, and nothing on it is refused.

#[cfg(test)]
#[path = "support/browser.rs"]
mod browser;
#[cfg(test)]
#[path = "support/factory.rs"]
mod factory;

use std::time::Duration;

use browser::Browser;
use factory::{Factory, app, instance};
use ofop::model::{
    ConditionKind, Health, LeaseRecord, LeaseStatus, Problem, RunId, SourceTrouble, Standing, TroubleReason,
};
use ofop::report::Report;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn the_page_follows_what_happens_and_fits_a_phone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let report = Report::new(instance());
    let (commands, _heard) = mpsc::channel(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving =
        tokio::spawn(ofop::http::serve(listener, report.clone(), commands, ofop::http::Tokens::default(), async {
            let _ = stopped.await;
        }));
    let long = "LINE-MONITOR-OF-THE-THIRD-HALL-WITH-A-NAME-THAT-HARDLY-FITS";
    let mut factory = Factory::empty().with_app("PRESS-7").with_app(long);
    let lengthy = format!("no suitable node ({})", "node.labels.gpu==true,".repeat(20));
    factory.planned(&app(long)).health = Health::Degraded;
    factory.condition(&app(long), ConditionKind::Degraded, "NoSuitableNode", &lengthy);
    factory.commit("1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d", &"A-subject-without-blanks-".repeat(6));
    factory.place.location = format!("https://git.plant.example/{}factory.git", "group/".repeat(12)).into();
    let refused = factory::commit("0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c", &"Another-one-".repeat(10));
    let trouble = SourceTrouble::new(TroubleReason::Unverified, "commit 0f1e2d3c4b5a is not signed");
    factory.desired.trouble = Some(trouble.hint("sign it").about(refused));
    factory.desired.problems.push(Problem::file(format!("desired/{}/app.yml", "folder/".repeat(12)), "is not UTF-8"));
    factory.tell(&report, SECOND);

    let browser = Browser::start(360).await;
    for page in [url.clone(), format!("{url}resources/app/{long}")] {
        browser.open(&page).await;
        let wider = browser.run("return document.documentElement.scrollWidth - window.innerWidth").await;
        assert_eq!(wider, 0, "{page} must not scroll sideways on a phone");
    }
    browser.open(&url).await;
    browser.until("document.querySelector('time').title !== ''").await;
    browser.until("document.title.startsWith('(3)')").await;
    assert_eq!(browser.run("return document.body.innerText.includes('rolled back')").await, false);

    // Who changes the cluster, since when, and where to ask; still no wider than a phone.
    let run = RunId::new("manager-of-the-third-hall.plant.example", 4711, u64::MAX);
    let record = LeaseRecord {
        holder: Some(run),
        epoch: 3,
        renewals: 9,
        lease: 15 * SECOND,
        version: "0.1.0".into(),
        address: Some("manager-of-the-third-hall.plant.example:8420".into()),
        since: Some("2026-01-02T03:04:05.678Z".into()),
    };
    let standby = LeaseStatus { standing: Standing::Standby, record: Some(record), ..LeaseStatus::default() };
    report.lease(&standby);
    browser.until("document.querySelector('.parts').innerText.includes('standby')").await;
    browser
        .until("document.querySelector('.parts').innerText.includes('manager-of-the-third-hall.plant.example:8420')")
        .await;
    browser.until("document.querySelector('.parts time[datetime=\"2026-01-02T03:04:05.678Z\"]').title !== ''").await;
    let wider = browser.run("return document.documentElement.scrollWidth - window.innerWidth").await;
    assert_eq!(wider, 0, "the lease must not make it scroll sideways");

    // Somebody undoes what is done: in the row, among the events as it begins and as it ends.
    let undone = "image of service press-7 is set to demo:1 and changed back to demo:2";
    factory.condition(&app("PRESS-7"), ConditionKind::Contested, "UndoneByOthers", undone);
    factory.tell(&report, SECOND);
    assert!(report.status().warnings.iter().any(|warning| warning.contains("app/PRESS-7")), "readyz warns");
    browser.until("document.querySelector('tbody').innerText.includes('changed back to demo:2')").await;
    browser.until("document.body.innerText.includes('Contested raised')").await;
    factory.planned(&app("PRESS-7")).conditions.clear();
    factory.tell(&report, SECOND);
    browser.until("document.body.innerText.includes('Contested cleared')").await;
    browser.until("!document.querySelector('tbody').innerText.includes('changed back to demo:2')").await;

    factory.planned(&app("PRESS-7")).health = Health::RolledBack;
    factory.tell(&report, SECOND);
    browser.until("document.querySelector('tbody').innerText.includes('rolled back')").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // The page says so when nobody answers any more.
    let _ = stop.send(());
    serving.await.unwrap().unwrap();
    browser.until("!document.getElementById('lost').hidden").await;
    browser.stop().await;
}
