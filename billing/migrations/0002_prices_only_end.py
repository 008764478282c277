"""A price is never edited or deleted: it may only be given an end, and not one that lies behind us (R-4.5)."""

from django.db import migrations

GUARD = """
CREATE FUNCTION billing_prices_only_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'a price is never deleted; end it' USING ERRCODE = '23514', CONSTRAINT = 'prices_only_end';
    END IF;
    IF to_jsonb(NEW) - 'valid_until' <> to_jsonb(OLD) - 'valid_until' THEN
        RAISE EXCEPTION 'a price is never edited; end it and add another'
            USING ERRCODE = '23514', CONSTRAINT = 'prices_only_end';
    END IF;
    IF NEW.valid_until IS DISTINCT FROM OLD.valid_until
       AND (OLD.valid_until < clock_timestamp() OR NEW.valid_until < clock_timestamp()) THEN
        RAISE EXCEPTION 'what has been charged stays as it was' USING ERRCODE = '23514', CONSTRAINT = 'prices_only_end';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER billing_prices_only_end BEFORE UPDATE OR DELETE ON billing_price
    FOR EACH ROW EXECUTE FUNCTION billing_prices_only_end();
"""

UNGUARD = "DROP TRIGGER billing_prices_only_end ON billing_price; DROP FUNCTION billing_prices_only_end();"


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [migrations.RunSQL(GUARD, UNGUARD)]
