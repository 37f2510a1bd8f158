"""Every error code that Stripe publishes, grouped by what a refund's refusal with this code means to us.

Published are the 209 codes in stripe-python 16.1 (`PaymentIntent.last_payment_error.code`, generated from Stripe's
OpenAPI description), read in 2026-11. A newer SDK with a code in no group fails the test, so that the code gets sorted.
Codes that are in no list of the adapter are at the end, by subject: no refund is known to get them, so a person reads
them. This table was written independently of the adapter's lists, not derived from them.
"""

from __future__ import annotations

from collections.abc import Mapping

from refund_worker.processors.stripe.errors import Meaning


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


KNOWN: Mapping[Meaning, frozenset[str]] = {
    # The charge, its card or its bank account no longer accepts refunds.
    Meaning.ENDS: _codes("charge_not_refundable card_declined expired_card account_closed no_account"),
    Meaning.ALREADY_REFUNDED: _codes("charge_already_refunded"),
    # Our balance is empty, or a dispute returns the money.
    Meaning.BLOCKED: _codes("balance_insufficient insufficient_funds charge_disputed refund_disputed_payment"),
    Meaning.BUSY: _codes("idempotency_key_in_use lock_timeout rate_limit"),
    # Key, account, mode, version, transport; then the form of the request.
    Meaning.OURS: _codes(
        "api_key_expired platform_api_key_expired secret_key_required account_invalid platform_account_required "
        "livemode_mismatch testmode_charges_only payment_evaluation_on_api_version_not_supported "
        "tls_version_unsupported "
        "parameter_invalid_empty parameter_invalid_integer parameter_invalid_string_blank "
        "parameter_invalid_string_empty parameter_missing parameter_unknown parameters_exclusive"
    ),
    # One record: its id, amount, currency, payment, connected account or a text of it.
    Meaning.PERSON: _codes(
        "resource_missing amount_too_large amount_too_small invalid_charge_amount payment_method_currency_mismatch "
        "charge_invalid_parameter payment_intent_invalid_parameter payment_intent_unexpected_state "
        "application_fees_not_allowed not_allowed_on_standard_account transfers_not_allowed "
        "email_invalid invalid_characters"
    ),
}

UNKNOWN_BY_SUBJECT: Mapping[str, frozenset[str]] = {
    "the bank reports that the customer reclaimed or stopped the money, which another payment must not repeat": _codes(
        "debit_not_authorized refer_to_customer"
    ),
    "a review or an approval of ours or of Stripe's that is not finished": _codes(
        "action_blocked anomalous_money_movement_request approval_required request_blocked"
    ),
    "permissions of an account, if the code does not say which account": _codes(
        "capability_not_active storer_capability_missing storer_capability_not_active "
        "financial_account_capability_not_enabled financial_account_capability_restricted "
        "financial_account_balance_does_not_support_currency"
    ),
    "making, verifying or changing an account": _codes(
        "account_country_invalid_address account_error_country_change_requires_additional_steps "
        "account_information_mismatch account_number_invalid account_token_required_for_v2_account "
        "bank_account_bad_routing_numbers bank_account_declined bank_account_exists bank_account_restricted "
        "bank_account_unusable bank_account_unverified bank_account_verification_failed clearing_code_unsupported "
        "country_code_invalid country_unsupported ownership_declaration_not_allowed postal_code_invalid "
        "progressive_onboarding_limit_exceeded routing_number_invalid siret_invalid state_unsupported tax_id_invalid "
        "tax_id_prohibited"
    ),
    "charging a card": _codes(
        "authentication_failure authentication_required card_decline_rate_limit_exceeded "
        "charge_exceeds_source_limit charge_exceeds_transaction_limit expired_payment_method incorrect_address "
        "incorrect_cvc incorrect_number incorrect_postal_code incorrect_zip india_recurring_payment_mandate_canceled "
        "invalid_card_type invalid_cvc invalid_expiry_month invalid_expiry_year invalid_number processing_error "
        "three_d_secure_authentication_not_supported three_d_secure_authentication_upstream_error"
    ),
    "capturing": _codes(
        "capture_charge_authorization_expired capture_unauthorized_payment charge_already_captured "
        "charge_expired_for_capture"
    ),
    "payment and setup intents": _codes(
        "intent_invalid_state intent_verification_method_missing payment_intent_action_required "
        "payment_intent_authentication_failure payment_intent_incompatible_payment_method "
        "payment_intent_konbini_rejected_confirmation_number payment_intent_mandate_invalid "
        "payment_intent_payment_attempt_expired payment_intent_payment_attempt_failed "
        "payment_intent_rate_limit_exceeded setup_attempt_failed setup_intent_authentication_failure "
        "setup_intent_invalid_parameter setup_intent_mandate_invalid setup_intent_mobile_wallet_unsupported "
        "setup_intent_setup_attempt_expired setup_intent_unexpected_state"
    ),
    "payment methods and mandates": _codes(
        "acss_debit_session_incomplete alipay_upgrade_required billing_invalid_mandate bitcoin_upgrade_required "
        "invalid_mandate_reference_prefix_format invalid_source_usage missing "
        "payment_method_bank_account_already_verified payment_method_bank_account_blocked "
        "payment_method_billing_details_address_missing payment_method_configuration_failures "
        "payment_method_customer_decline payment_method_invalid_parameter payment_method_invalid_parameter_testmode "
        "payment_method_microdeposit_failed payment_method_microdeposit_processing_error "
        "payment_method_microdeposit_verification_amounts_invalid "
        "payment_method_microdeposit_verification_amounts_mismatch "
        "payment_method_microdeposit_verification_attempts_exceeded "
        "payment_method_microdeposit_verification_descriptor_code_mismatch "
        "payment_method_microdeposit_verification_timeout payment_method_not_available "
        "payment_method_provider_decline payment_method_provider_timeout payment_method_restricted "
        "payment_method_unactivated payment_method_unexpected_state payment_method_unsupported_type "
        "sepa_unsupported_account token_already_used token_card_network_invalid token_in_use"
    ),
    "payouts and transfers": _codes(
        "balance_invalid_parameter instant_payouts_config_disabled instant_payouts_currency_disabled "
        "instant_payouts_limit_exceeded instant_payouts_unsupported payout_reconciliation_not_ready "
        "payouts_limit_exceeded payouts_not_allowed transfer_source_balance_parameters_mismatch"
    ),
    "customers, subscriptions, invoices, goods and taxes": _codes(
        "coupon_expired customer_max_payment_methods customer_max_subscriptions customer_session_expired "
        "customer_tax_location_invalid failed_tax_calculation invalid_canceled_subscription_fields "
        "invalid_tax_location invoice_no_customer_line_items invoice_no_payment_method_types "
        "invoice_no_subscription_line_items invoice_not_editable invoice_on_behalf_of_not_editable "
        "invoice_payment_intent_requires_action invoice_upcoming_none out_of_inventory product_inactive "
        "service_period_coupon_with_metered_tiered_item_unsupported shipping_address_invalid "
        "shipping_calculation_failed sku_inactive stripe_tax_inactive "
        "subscription_update_trial_after_billing_cycle_anchor taxes_calculation_failed"
    ),
    "other products": _codes(
        "cardholder_phone_number_required dispute_evidence_page_limit_exceeded financial_connections_account_inactive "
        "financial_connections_account_pending_account_numbers "
        "financial_connections_account_unavailable_account_numbers "
        "financial_connections_consent_locale_invalid financial_connections_consent_locale_unsupported "
        "financial_connections_no_successful_transaction_refresh forwarding_api_inactive "
        "forwarding_api_invalid_parameter forwarding_api_retryable_upstream_error "
        "forwarding_api_upstream_connection_error forwarding_api_upstream_connection_timeout "
        "forwarding_api_upstream_error resource_already_exists return_intent_already_processed "
        "smart_disputes_not_available status_transition_invalid terminal_location_country_unsupported "
        "terminal_reader_busy terminal_reader_hardware_fault terminal_reader_invalid_location_for_activation "
        "terminal_reader_invalid_location_for_payment terminal_reader_offline terminal_reader_timeout url_invalid"
    ),
}

GROUPS: Mapping[Meaning, frozenset[str]] = {
    **KNOWN,
    Meaning.UNKNOWN: frozenset().union(*UNKNOWN_BY_SUBJECT.values()),
}
