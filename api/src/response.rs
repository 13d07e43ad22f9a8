//! What handlers return. The types say both how an answer is written and how the OpenAPI document
//! describes it, so that the two cannot differ.

use crate::body::Body;
use crate::error::Error;
use api_types::ErrorBody;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::openapi::{
    ArrayBuilder, Content, Ref, RefOr, Response as Description, ResponseBuilder, schema::Schema,
};
use utoipa::{IntoResponses, ToSchema};

/// The answer to a request.
pub type Answer = Result<Response<Body>, Error>;

/// A JSON object.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// A JSON array.
#[derive(Debug)]
pub struct JsonList<T>(pub Vec<T>);

/// Anything else; the handler's attribute describes it.
pub struct Raw(pub Response<Body>);

/// What can be sent.
pub trait IntoAnswer {
    /// As an HTTP response.
    ///
    /// # Errors
    /// It cannot be written.
    fn into_answer(self) -> Answer;
}

impl<T: Serialize> IntoAnswer for Json<T> {
    fn into_answer(self) -> Answer {
        json(&self.0)
    }
}

impl<T: Serialize> IntoAnswer for JsonList<T> {
    fn into_answer(self) -> Answer {
        json(&self.0)
    }
}

impl IntoAnswer for Raw {
    fn into_answer(self) -> Answer {
        Ok(self.0)
    }
}

fn json(value: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::failed(format!("cannot write the answer: {error}")))?;
    Ok(with_type("application/json", Body::bytes(bytes)))
}

/// A response of this content type.
pub fn with_type(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

type Descriptions = BTreeMap<String, RefOr<Description>>;

/// A description of one response with a JSON body; `status` may be `default`.
fn described(status: &str, schema: impl Into<RefOr<Schema>>) -> Descriptions {
    let content = Content::new(Some(schema));
    let description = ResponseBuilder::new().content("application/json", content).build();
    BTreeMap::from([(status.to_owned(), description.into())])
}

impl<T: ToSchema> IntoResponses for Json<T> {
    fn responses() -> Descriptions {
        described("200", Ref::from_schema_name(T::name()))
    }
}

impl<T: ToSchema> IntoResponses for JsonList<T> {
    fn responses() -> Descriptions {
        described("200", ArrayBuilder::new().items(Ref::from_schema_name(T::name())))
    }
}

impl IntoResponses for Raw {
    fn responses() -> Descriptions {
        BTreeMap::new()
    }
}

impl IntoResponses for Error {
    fn responses() -> Descriptions {
        described("default", Ref::from_schema_name(ErrorBody::name()))
    }
}
