/* The loss scale of fp16, by the rule of torch.amp.GradScaler. */
#include "optim/optim.h"
#include "unit.h"

static sgc_loss_scale started(void)
{
    sgc_loss_scale s;
    sgc_loss_scale_start(&s);
    return s;
}

START_TEST(it_starts_at_two_to_the_sixteenth) { ck_assert_double_eq(started().scale, 65536); }
END_TEST

START_TEST(an_overflow_halves_it_and_starts_the_count_anew)
{
    sgc_loss_scale s = started();
    for (int i = 0; i < 1999; i++) sgc_loss_scale_update(&s, false);
    sgc_loss_scale_update(&s, true);
    ck_assert_double_eq(s.scale, 32768);
    for (int i = 0; i < 1999; i++) sgc_loss_scale_update(&s, false);
    ck_assert_double_eq(s.scale, 32768);
    sgc_loss_scale_update(&s, false);
    ck_assert_double_eq(s.scale, 65536);
}
END_TEST

START_TEST(two_thousand_good_updates_double_it)
{
    sgc_loss_scale s = started();
    for (int i = 0; i < 4000; i++) sgc_loss_scale_update(&s, false);
    ck_assert_double_eq(s.scale, 4 * 65536);
    ck_assert_int_eq(s.n_good, 0);
}
END_TEST

START_TEST(it_stays_a_finite_float)
{
    sgc_loss_scale s = {.scale = 0x1p127};
    for (int i = 0; i < 2000; i++) sgc_loss_scale_update(&s, false);
    ck_assert_double_eq(s.scale, 0x1p127);
}
END_TEST

UNIT_MAIN("loss_scale", it_starts_at_two_to_the_sixteenth, an_overflow_halves_it_and_starts_the_count_anew, two_thousand_good_updates_double_it,
          it_stays_a_finite_float)
