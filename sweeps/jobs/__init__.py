"""Distributed jobs, one each: fit teachers, make images, relabel, train students."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from sweeps.jobs.expert_files import Trajectory, trajectory
    from sweeps.jobs.fit_teachers import TeacherFit, fit_experts, seed_path
    from sweeps.jobs.images_place import images_source
    from sweeps.jobs.inputs import (
        Evaluation,
        check_classes,
        experts_by_epoch,
        fit_or_open_teacher,
        open_evaluation,
        open_images,
        open_teacher_for,
    )
    from sweeps.jobs.master_labels import LABELS_FOLDER, Master, make_master
    from sweeps.jobs.relabel_shards import relabel
    from sweeps.jobs.student_job import StudentAccuracy, StudentJob, train_students_here
    from sweeps.jobs.students import train_students
    from sweeps.jobs.sweep_images import STATISTICS_FOLDER, make_images
    from sweeps.jobs.synthesis import SHEETS_FOLDER, synthesize
    from sweeps.jobs.synthesis_plan import SynthesisPlan, plan_synthesis
    from sweeps.jobs.synthesis_spec import SynthesisJob
    from sweeps.jobs.synthesis_tracked import EXPERIMENT, synthesize_tracked
    from sweeps.jobs.timing import relabelled_views_per_second, trained_views_per_second

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
