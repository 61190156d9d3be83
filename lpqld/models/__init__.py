"""Networks: architectures, and teachers: loading, fitting, accuracy."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from lpqld.models.architectures import build, fixed_input_size
    from lpqld.models.choices import ARCHITECTURES, Precision
    from lpqld.models.ensemble import load_teachers, teacher_files
    from lpqld.models.evaluation import accuracy, predict
    from lpqld.models.fit import FitEpoch, fit_teacher
    from lpqld.models.fit_recipe import FitRecipe, epochs_to_keep
    from lpqld.models.imagenet import IMAGENET_MEAN, IMAGENET_STD, Triple
    from lpqld.models.normalise import normalised
    from lpqld.models.optimizer import half_cosine, parameter_groups
    from lpqld.models.precision import layout_of, slower_in_bfloat16, uses_bfloat16
    from lpqld.models.teacher import Teacher, choose_device, load_teacher, save_teacher
    from lpqld.models.teacher_source import TeacherSource
    from lpqld.models.teacher_spec import INTERPOLATIONS, TeacherSpec
    from lpqld.models.timm_folder import MODEL_FILE, save_model

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
