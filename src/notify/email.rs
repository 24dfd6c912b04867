//! Mail by SMTP.

use std::path::Path;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::{self, ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message as Mail, Tokio1Executor};

use super::format;
use super::message::Message;
use super::outcome::Outcome;
use super::settings::{Email, MailTls};
use crate::model::text::{causes, cut};

/// How long one step of the conversation may take.
const STEP: Duration = Duration::from_secs(10);

/// The address that a text names, with a name before it or without one.
pub(super) fn mailbox(text: &str) -> Option<Mailbox> {
    text.parse().ok()
}

/// A mail server.
pub(super) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mailer {
    /// Nothing is sent yet. `authorities` (PEM) are trusted besides the system's.
    ///
    /// # Errors
    /// A sentence when TLS cannot be set up.
    pub(super) fn new(settings: &Email, authorities: Option<&Path>) -> Result<Self, String> {
        let tls = match settings.tls {
            MailTls::None => Tls::None,
            MailTls::StartTls => Tls::Required(parameters(&settings.server, authorities)?),
            MailTls::Tls => Tls::Wrapper(parameters(&settings.server, authorities)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.server)
            .port(settings.port)
            .tls(tls)
            .timeout(Some(STEP));
        if let Some((username, password)) = &settings.credentials {
            builder = builder.credentials(Credentials::new(username.clone(), password.expose().to_owned()));
        }
        let from = mailbox(&settings.from).ok_or("the sender is no mail address")?;
        Ok(Mailer { transport: builder.build(), from, to: settings.to.iter().filter_map(|to| mailbox(to)).collect() })
    }

    /// Hands a message to the server.
    pub(super) async fn send(&self, message: &Message) -> Outcome {
        let mail = match mail(&self.from, &self.to, message) {
            Ok(mail) => mail,
            Err(reason) => return Outcome::Refused { reason, hint: "check `from` and `to`" },
        };
        match self.transport.send(mail).await {
            Ok(response) => {
                let said = response.message().collect::<Vec<_>>().join(" ");
                Outcome::Delivered(cut(&format!("{} {said}", response.code()), 200).into_owned())
            }
            Err(error) => {
                let reason = cut(&causes(&error), 300).into_owned();
                if error.is_permanent() && !is_about_rights(&error) {
                    Outcome::Refused { reason, hint: "the server takes no such mail: check `from` and `to`" }
                } else if error.is_tls() {
                    Outcome::failed(
                        reason,
                        "check `tls`, `port` and the server's certificate; OFOP_CA_FILE names authorities",
                    )
                } else {
                    Outcome::failed(reason, "check `server`, `port`, `tls` and the password")
                }
            }
        }
    }
}

/// 530, 534, 535 and 538 of RFC 4954: it is about who signs in, and not about this mail.
fn is_about_rights(error: &lettre::transport::smtp::Error) -> bool {
    error.status().is_some_and(|code| matches!(u16::from(code), 530 | 534 | 535 | 538))
}

fn parameters(server: &str, authorities: Option<&Path>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(server.to_owned());
    if let Some(path) = authorities {
        let shown = path.display();
        let pem = std::fs::read(path).map_err(|error| format!("`{shown}` cannot be read: {error}"))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| format!("`{shown}`: {}", causes(&error)))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build().map_err(|error| format!("TLS cannot be set up: {}", causes(&error)))
}

/// A header that mail programs know as "a program wrote this: answer nothing" (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(AutoSubmitted)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

fn mail(from: &Mailbox, to: &[Mailbox], message: &Message) -> Result<Mail, String> {
    let domain = from.email.domain();
    let mut builder = Mail::builder()
        .from(from.clone())
        .subject(format::subject(message))
        .message_id(Some(format!("<{}@{domain}>", message.id)))
        .header(AutoSubmitted);
    for to in to {
        builder = builder.to(to.clone());
    }
    builder.header(ContentType::TEXT_PLAIN).body(format::plain(message)).map_err(|error| error.to_string())
}
