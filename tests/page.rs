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
use ofop::model::{ConditionKind, Health, Problem, SourceTrouble, TroubleReason};
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
