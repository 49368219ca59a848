"""What /v1/embeddings is sent: OpenAI's request, and three fields of ours."""

from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from gateway.errors import InvalidInput
from gateway.http.bodies import refuse_many
from gateway.rpc.embedding_model import MODELS

MAX_INPUTS = 2048
"""OpenAI's limit, which its clients send up to."""
MAX_TOKEN_IDS = 65_536
"""Of one text: more than any encoder reads."""

_Ids = Annotated[list[StrictInt], Field(min_length=1, max_length=MAX_TOKEN_IDS, fail_fast=True)]
# At the first bad item the rest is not looked at: eight megabytes of them would make as many errors.
_Texts = Annotated[list[StrictStr], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]
_IdLists = Annotated[list[_Ids], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]
_INPUT = (
    f"is neither a string, nor a list of 1 to {MAX_INPUTS} strings, nor a list of token ids, nor a list of 1 to "
    f"{MAX_INPUTS} of these, each of 1 to {MAX_TOKEN_IDS} ids"
)


class EmbeddingsRequest(BaseModel):
    """A request for embeddings; a field that is not here is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    input: StrictStr | _Texts | _Ids | _IdLists = Field(
        description="A text, or several, or the same as token ids with `tokenizer`."
    )
    model: str = Field(
        description="`duovec` for both encoders, 2560 numbers; `duovec-code`, 1536, or `duovec-text`, 1024, for one.",
        json_schema_extra={"enum": list(MODELS)},
    )
    encoding_format: Literal["float", "base64"] = Field("float", description="`base64` is of little-endian float32.")
    dimensions: int | None = Field(
        None,
        description="The model's own number; of `duovec` 1536 and 1024 too, which are its halves. No other.",
        json_schema_extra={"enum": [*(model.dimension for model in MODELS.values()), None]},
    )
    user: str | None = Field(None, description="Ignored: the key says who calls.")
    input_type: Literal["query", "passage"] = Field(
        "passage", description="Ours: what the texts are for; encoders may read a query otherwise than what it finds."
    )
    truncate: bool = Field(False, description="Ours: cut texts that an encoder cannot read to their end.")
    tokenizer: Literal["duovec-code", "duovec-text"] | None = Field(
        None,
        description="Ours: whose ids `input` has. Ids are refused without it, since those of any other tokenizer, such "
        "as OpenAI's, would be taken for other words.",
    )


def read_request(body: bytes) -> EmbeddingsRequest:
    """Read a request.

    Raises:
        InvalidInput: It is not JSON, or not such a request; names the first field that is wrong.
    """
    refuse_many(body, b"[{", 2 * MAX_INPUTS)
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise InvalidInput("body", f"is not JSON: {exc}") from exc
    if not isinstance(fields, dict):
        raise InvalidInput("body", "is not a JSON object")
    try:
        return EmbeddingsRequest.model_validate(fields)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        name = str(error["loc"][0])[:80]
        if name == "input" and error["type"] != "missing":
            raise InvalidInput("input", _INPUT) from None
        if error["type"] == "extra_forbidden":
            known = ", ".join(EmbeddingsRequest.model_fields)
            raise InvalidInput(name, f"is no field of this request; there are {known}") from None
        raise InvalidInput(name, error["msg"]) from None
