"""Pay out now: what can be paid to a payee, what a request would do, and the request."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from refund_worker.domain.payouts.payout import PayoutStatus
from refund_worker.engine.intake.payee_schemas import PayoutPreviewSchema, PayoutSchema
from refund_worker.engine.intake.schemas import parse_schema
from refund_worker.engine.payouts.preview import preview_payout
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.payee_objects import find_payee
from refund_worker.engine.views.payout_objects import find_payout
from refund_worker.errors import InvalidRequest, NotFound, RefundWorkerError
from refund_worker.web.authorised import request_payout
from refund_worker.web.console.forms import key_of, minor_units, whole
from refund_worker.web.console.pages import Page, ThePage
from refund_worker.web.console.query import SearchText, ShortText
from refund_worker.web.console.refund_forms import form_id

router = APIRouter()


@router.get("/pay-out")
def ask_to_pay_out(page: ThePage, id: SearchText = "", amount: ShortText = "") -> Response:
    """Show what can be paid out, and what a payout of this amount would do; by default of all that is payable."""
    return _pay_out_page(page, {"id": id, "amount": amount}) if id else page.redirect("/payees")


@router.post("/pay-out", response_model=None)
def pay_out(page: ThePage) -> Response:
    """Request the payout that the page showed; the same form sent twice makes one payout."""
    form = page.form
    try:
        fields = {
            "payee_id": form.get("id", ""),
            "amount_minor": whole(form, "amount_minor", "Amount"),
            "currency": form.get("currency", ""),
            "description": form.get("description", "").strip(),
        }
        body = parse_schema(PayoutSchema, fields)
        answer = request_payout(page.context, page.identity, body, idempotency_key=key_of(form))
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _pay_out_page(page, form, error)
    with page.context.database.read() as connection:
        payout = find_payout(connection, answer.payout_id)
    waits = payout.status is PayoutStatus.AWAITING_APPROVAL
    done = "payout_approval" if waits else "payout_asked"
    return page.redirect(f"/payouts/{payout.payout_id}", done=done)


def _pay_out_page(page: Page, form: Mapping[str, str], error: RefundWorkerError | None = None) -> HTMLResponse:
    with page.context.database.read() as connection:
        payee = find_payee(connection, form.get("id", ""), page.context.clock(connection))
    amount, problem = None, None
    try:
        if form.get("amount_minor"):
            amount = whole(form, "amount_minor", "Amount")
        elif form.get("amount", "").strip():
            amount = minor_units(form, "amount", "Amount", payee["currency"])
        asked = parse_schema(PayoutPreviewSchema, {"payee_id": payee["payee_id"], "amount_minor": amount})
    except InvalidRequest as wrong:
        amount, problem = None, wrong
        asked = PayoutPreviewSchema(payee_id=payee["payee_id"])
    previewed = preview_payout(page.context, asked.request(client=page.identity.client, actor=page.identity.actor))
    shown = problem or error
    values: Json = {
        "payee": payee,
        "preview": previewed,
        "amount": form.get("amount", "") if problem else "",
        "description": form.get("description", ""),
        "request_id": form_id(form, error),
    }
    return page.render("pay_out.html", shown.status if shown else 200, error=shown, **values)
